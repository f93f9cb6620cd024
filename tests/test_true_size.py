"""The paper's backbones at their true size, from their configs, with random weights."""

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import _wordpiece_tokenizer
from peft import PeftModel
from safetensors.torch import save_file
from spm import train_sentencepiece
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification

from spacy_openmed import adapters, backbones, network
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.inference import positions
from spacy_openmed.network import tagging_loss
from spacy_openmed.packaging.peft_export import export_peft
from spacy_openmed.predictor import Predictor
from spacy_openmed.training import finetune, settings
from spacy_openmed.training.settings import FinetuneSettings
from spacy_openmed.windows import encode, pad, special_tokens

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:The sentencepiece tokenizer that you are converting"),
]

LARGE = ("deberta-v3-large", "pubmedbert-large", "bioelectra-large")
TEXT = "Germline mutations of BRCA1 predispose to breast cancer; p53 is a tumor protein."
TYPES = ("DISEASE", "GENE")
# Two types: O, and B and I of each.
HEAD = 5 * 1024 + 5
# By hand: 24 layers x (query, value) x rank 16 x (1024 in + 1024 out).
LORA = 24 * 2 * 16 * (1024 + 1024)


def encoder_parameters(config: dict[str, Any]) -> int:
    """Counted from the config, layer by layer; the pooler is not part of the encoder."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = hidden * inner + inner + inner * hidden + hidden
    layer = attention + feed_forward + 2 * 2 * hidden
    rows = config["vocab_size"] + config["type_vocab_size"]
    if config["model_type"] == "deberta-v2":
        # Relative positions, in both directions, with a norm of their own.
        rows += 2 * config["position_buckets"]
        norms = 2
    else:
        rows += config["max_position_embeddings"]
        norms = 1
    return rows * hidden + norms * 2 * hidden + config["num_hidden_layers"] * layer


EXPECTED = {
    # Encoder, and LoRA's share of encoder and LoRA in percent.
    "deberta-v3-large": (434_012_160, 0.3611),
    # With its pooler (1,049,600) and LoRA a BERT-large has 336.7 M, of which LoRA is 0.47 %.
    "pubmedbert-large": (334_092_288, 0.4686),
    "bioelectra-large": (332_426_240, 0.4709),
}


def test_a_bert_large_with_its_pooler_and_lora_has_336_7_million() -> None:
    total = EXPECTED["pubmedbert-large"][0] + 1024 * 1024 + 1024 + LORA
    assert total == 336_714_752
    assert LORA == 1_572_864


def write_backbone(config: dict[str, Any], folder: Path) -> Path:
    """A backbone folder with random weights in float16, and a tokenizer made here."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf8")
    with torch.device("meta"):
        shapes: Any = AutoModel.from_config(AutoConfig.for_model(**config)).state_dict()
    generator = torch.Generator().manual_seed(0)
    # One block of noise, cut anew for each tensor: hundreds of millions of draws take a minute.
    noise = torch.empty(2**21, dtype=torch.float16).normal_(std=0.03, generator=generator)
    tensors = {}
    for number, (name, like) in enumerate(shapes.items()):
        if name.startswith("pooler."):
            continue
        if "LayerNorm" in name:
            value = torch.full(like.shape, float(name.endswith("weight")), dtype=torch.float16)
        else:
            block = noise.roll(7919 * number)
            repeats = -(-like.numel() // len(block))
            value = block.repeat(repeats)[: like.numel()].reshape(like.shape).clone()
        tensors[name] = value
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    if config["model_type"] == "deberta-v2":
        train_sentencepiece(folder / "spm.model")
        (folder / "tokenizer_config.json").write_text('{"vocab_type": "spm"}', encoding="utf8")
    else:
        _wordpiece_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@dataclass(frozen=True)
class Run:
    """One backbone, and what training it for two steps gave.

    ids, mask (int64[2, length]): A text and the beginning of it.
    logits (float32[2, length, 5]): With live LoRA, after training.
    trainable (dict[str, int]): Parameters that may change, by name.
    gradients (list[dict[str, float]]): Largest absolute value for each of them, by step.
    """

    id: str
    config: dict[str, Any]
    folder: Path
    adapter: Path
    ids: np.ndarray
    mask: np.ndarray
    logits: np.ndarray
    total: int
    trainable: dict[str, int]
    gradients: list[dict[str, float]]
    frozen_gradients: int
    losses: list[float]
    config_loaded: str
    config_trained: str


def as_json(config: Any) -> str:
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


@pytest.fixture(scope="module", params=LARGE)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Built as ``train`` builds it, trained, saved, and gone from memory."""
    name = request.param
    home = tmp_path_factory.mktemp(name)
    config = backbones.registry()[name]["config"]
    folder = write_backbone(config, home / "backbones" / name)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setenv(backbones.HOME, str(home))
        patch.delenv(backbones.ALLOW_HUB, raising=False)
        torch.manual_seed(1)
        yield train(name, config, folder, home / "adapter")
    gc.collect()
    (folder / backbones.WEIGHTS).unlink()


def train(name: str, config: dict[str, Any], folder: Path, output: Path) -> Run:
    ref = backbones.reference(name)
    assert backbones.find(ref) == folder
    model = finetune.build(folder, settings.load(FinetuneSettings, "finetune"), 5)
    loaded = as_json(model.encoder.config)
    tokenizer = backbones.load_tokenizer(folder)
    special = special_tokens(tokenizer, model.encoder.config.pad_token_id)
    encoding = encode(TEXT, tokenizer)
    ids, mask = pad([encoding.ids, encoding.ids[:9]], special)
    inputs = (torch.from_numpy(ids), torch.from_numpy(mask))
    targets = torch.arange(ids.size).reshape(ids.shape) % 5
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3)
    model.train()
    losses, gradients = [], []
    for _ in range(2):
        loss = tagging_loss(model(*inputs), targets, 0.1)
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: float(p.grad.abs().max()) for n, p in parameters.items()})
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        logits = model.eval()(*inputs).numpy()
    adapters.write(network.to_adapter(model, AdapterInfo("", TYPES, ref)), output)
    return Run(
        id=name,
        config=config,
        folder=folder,
        adapter=output,
        ids=ids,
        mask=mask,
        logits=logits,
        total=sum(p.numel() for p in model.parameters()),
        trainable={n: p.numel() for n, p in parameters.items()},
        gradients=gradients,
        frozen_gradients=sum(
            p.grad is not None for n, p in model.named_parameters() if n not in parameters
        ),
        losses=losses,
        config_loaded=loaded,
        config_trained=as_json(model.encoder.config),
    )


def test_parameters_and_share_are_those_counted_by_hand(run: Run) -> None:
    encoder, percent = EXPECTED[run.id]
    entry = backbones.registry()[run.id]
    assert encoder_parameters(run.config) == encoder == entry["parameters"]
    assert entry["hidden_size"] == run.config["hidden_size"] == 1024
    lora = {n: count for n, count in run.trainable.items() if ".lora_" in n}
    assert sum(lora.values()) == LORA
    assert sum(run.trainable.values()) == LORA + HEAD
    assert run.total == encoder + LORA + HEAD
    assert round(100 * LORA / (encoder + LORA), 4) == percent


def test_lora_is_on_query_and_value_of_every_layer(run: Run) -> None:
    pattern = re.compile(backbones.registry()[run.id]["lora_target_modules"])
    found = {
        n.removeprefix("encoder.base_model.model.").split(".lora_")[0]
        for n in run.trainable
        if ".lora_" in n
    }
    assert len(found) == 24 * 2
    assert all(pattern.fullmatch(name) for name in found)
    layers = {int(re.search(r"layer\.(\d+)\.", name)[1]) for name in found}
    assert layers == set(range(24))


def test_backward_reaches_all_that_is_trained_and_nothing_else(run: Run) -> None:
    first, second = run.gradients
    # B starts at zero, and A has no gradient until B has moved.
    assert all(value > 0 for n, value in first.items() if ".lora_A." not in n)
    assert all(value == 0 for n, value in first.items() if ".lora_A." in n)
    assert all(value > 0 for value in second.values())
    assert run.frozen_gradients == 0
    assert np.isfinite(run.losses).all()
    assert np.isfinite(run.logits).all()


def test_no_field_of_the_config_is_changed(run: Run) -> None:
    assert run.config_trained == run.config_loaded
    assert json.loads((run.folder / backbones.CONFIG).read_text(encoding="utf8")) == run.config
    recorded = json.loads(as_json(AutoConfig.for_model(**run.config)))
    loaded = json.loads(run.config_loaded)
    # Where it was read from and in which number format is not the model's.
    own = set(recorded) - {"torch_dtype", "dtype", "_name_or_path", "transformers_version"}
    assert {key: loaded[key] for key in own} == {key: recorded[key] for key in own}


def test_size_of_the_adapter_on_disk(run: Run) -> None:
    sizes = {path.name: path.stat().st_size for path in run.adapter.iterdir()}
    # Four bytes a number, and a header with the names of 96 matrices.
    assert 0 < sizes["adapter_model.safetensors"] - 4 * LORA < 20_000
    assert 0 < sizes["head.safetensors"] - 4 * HEAD < 500
    assert 6.3e6 < sum(sizes.values()) < 6.4e6


def test_merged_adapter_computes_what_the_live_one_does(run: Run) -> None:
    adapter = adapters.read(run.adapter)
    assert adapter.info.backbone.sha256 == backbones.file_sha256(run.folder / backbones.WEIGHTS)
    predictor = Predictor.load(run.adapter)
    shared = predictor.backbone
    untouched = as_json(shared.encoder.config)
    merged = shared.logits(adapter, run.ids, run.mask)
    inside = run.mask.astype(bool)
    np.testing.assert_allclose(merged[inside], run.logits[inside], atol=2e-3)
    # The LoRA says something: without it the logits are others.
    zero = {name: torch.zeros_like(tensor) for name, tensor in adapter.lora.items()}
    plain = shared.logits(replace(adapter, lora=zero), run.ids, run.mask)
    assert np.abs(plain - merged)[inside].max() > 0.05
    # encode, cut, run, stitch and decode.
    (encoding,), (rows,) = predictor.tag([TEXT])
    np.testing.assert_allclose(rows, merged[0, 1 : 1 + len(encoding)], atol=2e-3)
    assert all(TEXT[e.start : e.end].strip() for e in predictor([TEXT])[0])
    assert as_json(shared.encoder.config) == untouched
    assert positions(shared.encoder) == (None if run.id.startswith("deberta") else 512)


def test_exported_adapter_runs_with_plain_peft(run: Run, tmp_path: Path) -> None:
    export_peft(adapters.read(run.adapter), tmp_path / "export")
    labels = json.loads((tmp_path / "export" / "labels.json").read_text(encoding="utf8"))
    plain = AutoModelForTokenClassification.from_pretrained(
        str(run.folder), num_labels=labels["num_labels"], torch_dtype=torch.float32
    )
    model = PeftModel.from_pretrained(plain, str(tmp_path / "export")).eval()
    with torch.inference_mode():
        found = model(
            input_ids=torch.from_numpy(run.ids), attention_mask=torch.from_numpy(run.mask)
        ).logits.numpy()
    inside = run.mask.astype(bool)
    np.testing.assert_allclose(found[inside], run.logits[inside], atol=2e-3)
