r"""What the paper's backbones cost at their true size: parameters, adapter, memory of a step.

Built from their configs with random weights, and trained for one step as configs/finetune.toml
says. The peak memory of a step is measured on a GPU; without one it is null.

    python benchmarks/true_size.py --json benchmarks/results/true_size.json
"""

import argparse
import gc
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from common import report
from transformers import AutoConfig, AutoModel

from spacy_openmed import adapters, backbones, network
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.backbones import BackboneRef
from spacy_openmed.network import TokenTagger, tagging_loss
from spacy_openmed.training import lora, settings
from spacy_openmed.training.settings import FinetuneSettings

# As in the paper (arXiv 2508.01630, Section 3.5), which says less than 16 GB.
BATCH, LENGTH = 32, 256
TYPES = ("DISEASE",)


def build(name: str, chosen: FinetuneSettings, device: str) -> TokenTagger:
    """What ``train`` builds, of random weights."""
    config = AutoConfig.for_model(**backbones.registry()[name]["config"])
    with torch.device(device):
        encoder: Any = AutoModel.from_config(config)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    encoder.requires_grad_(False)
    network.set_dropout(encoder, chosen.dropout, chosen.attention_dropout)
    info = AdapterInfo("", TYPES, BackboneRef(name))
    return TokenTagger(lora.wrap(encoder, chosen.lora), len(info.labels), chosen.dropout).to(device)


def adapter_bytes(model: TokenTagger, name: str) -> int:
    """Size on disk as ``train`` writes it: LoRA in float16, head in float32."""
    info = AdapterInfo("", TYPES, BackboneRef(name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        adapters.write(network.to_adapter(model, info, torch.float16), path)
        return sum(file.stat().st_size for file in path.iterdir())


def peak_memory(name: str, chosen: FinetuneSettings, checkpointing: bool) -> float:
    """The most that PyTorch held in two steps, in GB (10⁹ bytes): the second has AdamW's state."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = build(name, chosen, "cuda").train()
    if checkpointing:
        # Reentrant, the default of old versions, would train nothing but the head.
        model.encoder.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=chosen.optim.learning_rate)
    vocabulary = model.encoder.config.vocab_size
    ids = torch.randint(5, vocabulary, (BATCH, LENGTH), device="cuda")
    labels = torch.randint(0, 3, (BATCH, LENGTH), device="cuda")
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(ids, torch.ones_like(ids))
        tagging_loss(logits, labels, chosen.label_smoothing).backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = torch.cuda.max_memory_allocated() / 1e9
    del model, optimizer, trained
    gc.collect()
    return peak


def measure(name: str, gpu: bool) -> dict[str, Any]:
    chosen = settings.load(FinetuneSettings, settings.choose("finetune", name))
    model = build(name, chosen, "cpu")
    trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    in_lora = sum(count for n, count in trainable.items() if ".lora_" in n)
    encoder = sum(p.numel() for p in model.encoder.parameters()) - in_lora
    row = {
        "backbone": name,
        "encoder": encoder,
        "LoRA": in_lora,
        "head": sum(trainable.values()) - in_lora,
        "share in %": 100 * in_lora / (encoder + in_lora),
        "adapter in MB": adapter_bytes(model, name) / 1e6,
    }
    del model
    gc.collect()
    for key, checkpointing in (("peak GB", False), ("peak GB, checkpointing", True)):
        row[key] = peak_memory(name, chosen, checkpointing) if gpu else None
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=list(backbones.registry()))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available()
    rows = [measure(name, gpu) for name in arguments.backbones]
    report(
        rows,
        arguments.json,
        device=torch.cuda.get_device_name() if gpu else "cpu",
        batch=BATCH,
        wordpieces=LENGTH,
        precision="bf16" if gpu else None,
        note=None if gpu else "No GPU here: the peak memory of a step was not measured.",
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


if __name__ == "__main__":
    main()
