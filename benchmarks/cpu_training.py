r"""What plain attention and cheaper dropout masks save of an update of fine-tuning on a CPU.

The same network and batches, bf16, one thread, in turns: with PyTorch's fused attention and
dropout; with plain attention; and with both changes, with and without dropout in LoRA.

    python benchmarks/cpu_training.py --json benchmarks/results/cpu_training.json
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from common import report

from spacy_openmed import backbones
from spacy_openmed.network import TokenTagger, set_dropout, tagging_loss
from spacy_openmed.training.dropout import use_cpu_dropout
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.settings import FinetuneSettings, LoraSettings, load

# Wordpieces of a batch: documents, and sentences.
SHAPES = ((8, 256), (52, 40))


def network(attention: str | None, cheap_dropout: bool, lora_dropout: float) -> TokenTagger:
    settings = load(FinetuneSettings, "finetune-minilm")
    lora = LoraSettings(
        settings.lora.rank, settings.lora.alpha, lora_dropout, settings.lora.target_modules
    )
    folder = backbones.find(backbones.reference("minilm"))
    torch.manual_seed(0)
    encoder = backbones.load_encoder(folder, attention)
    set_dropout(encoder, settings.dropout, settings.attention_dropout)
    model = TokenTagger(wrap(encoder, lora), 3, settings.dropout)
    if cheap_dropout:
        use_cpu_dropout(model)
    return model.train()


def stepper(model: TokenTagger, shape: tuple[int, int]) -> Callable[[], float]:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4)
    ids = torch.randint(1000, 20_000, shape)
    mask, labels = torch.ones_like(ids), torch.randint(0, 3, shape)

    def step() -> float:
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = tagging_loss(model(ids, mask), labels, 0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1000 * (time.perf_counter() - begun)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variants = {"as PyTorch has it": (None, False), "plain attention": ("eager", False)}
    variants["and cheaper dropout"] = ("eager", True)
    rows = []
    for lora_dropout in (0.0, 0.1):
        for shape in SHAPES:
            steps = {
                name: stepper(network(*variant, lora_dropout), shape)
                for name, variant in variants.items()
            }
            times: dict[str, list[float]] = {name: [] for name in steps}
            for turn in range(arguments.updates + 2):
                for name, step in steps.items():
                    spent = step()
                    if turn >= 2:
                        times[name].append(spent)
            first = median(times["as PyTorch has it"])
            rows += [
                {
                    "variant": name,
                    "batch": "x".join(map(str, shape)),
                    "LoRA dropout": lora_dropout,
                    "ms an update": median(spent),
                    "times as fast": first / median(spent),
                }
                for name, spent in times.items()
            ]
    report(rows, arguments.json, threads=1, torch=torch.__version__)


if __name__ == "__main__":
    main()
