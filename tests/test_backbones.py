"""The known backbones, and importing one from what the hub has."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS
from safetensors.torch import load_file, save_file
from spm import SENTENCES, train_sentencepiece
from transformers import AutoConfig, AutoModel, BertConfig, BertForMaskedLM
from typer.testing import CliRunner

from spacy_openmed import backbone_import, backbones, hub
from spacy_openmed.backbone_import import import_backbone
from spacy_openmed.backbones import BackboneRef
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.training import settings
from spacy_openmed.training.lora import check_targets
from spacy_openmed.training.settings import FinetuneSettings
from spacy_openmed.windows import encode

LARGE = ("deberta-v3-large", "pubmedbert-large", "bioelectra-large")
TINY = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 200,
}


@pytest.fixture()
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No backbone anywhere but in this folder, which is empty."""
    monkeypatch.setenv(backbones.HOME, str(tmp_path / "home"))
    monkeypatch.delenv(backbones.ALLOW_HUB, raising=False)
    monkeypatch.setattr(backbones, "_in_hub", lambda ref, online: None)
    return tmp_path / "home" / "backbones"


@pytest.fixture()
def downloaded(tmp_path: Path) -> Path:
    """A small BERT as the hub has PubMedBERT: a pickle with heads, vocab.txt, no tokenizer."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    config = BertConfig(**{k: v for k, v in TINY.items() if k != "model_type"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForMaskedLM(config)
    state = model.state_dict()
    # As old conversions from TensorFlow name them; a table of positions is no weight.
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value.half()
        for name, value in state.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(old, folder / "pytorch_model.bin")
    written = {**TINY, "architectures": ["BertForMaskedLM"], "eos_token_ids": 0}
    (folder / "config.json").write_text(json.dumps(written, indent=4), encoding="utf8")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS.split())]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    return folder


def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **entry: Any) -> None:
    """Make "tiny" a known backbone."""
    file = tmp_path / "backbones.json"
    file.write_text(json.dumps({"tiny": {"config": TINY, **entry}}), encoding="utf8")
    monkeypatch.setattr(backbones, "_REGISTRY_FILE", file)


# What is known


def test_the_papers_backbones_are_known() -> None:
    known = backbones.registry()
    assert set(known) == {"minilm", *LARGE}
    for name, entry in known.items():
        assert entry["tokenizer"] in ("wordpiece", "sentencepiece")
        assert entry["hub_id"].count("/") == 1
        assert entry["revision"]
        assert entry["licence"]
        assert entry["note"]
        assert entry["hidden_size"] == entry["config"]["hidden_size"]
        for digest in (entry["sha256"], *entry.get("source_sha256", {}).values()):
            assert digest == "" or len(bytes.fromhex(digest)) == 32
        assert BackboneRef.from_dict({"id": name, **entry}).hub_id == entry["hub_id"]


@pytest.mark.parametrize("name", ["minilm", *LARGE])
def test_recorded_targets_are_those_of_the_settings(name: str) -> None:
    entry = backbones.registry()[name]
    chosen = settings.load(FinetuneSettings, settings.choose("finetune", name))
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(**entry["config"]))
    model.pooler = None
    check_targets(model, chosen.lora)

    def matched(pattern: str) -> set[str]:
        return {n for n, _ in model.named_modules() if re.fullmatch(pattern, n)}

    targets = matched(entry["lora_target_modules"])
    assert targets == matched(chosen.lora.target_modules)
    layers = entry["config"]["num_hidden_layers"]
    assert len(targets) == layers * (6 if name == "minilm" else 2)
    assert sum(p.numel() for p in model.parameters()) == entry["parameters"]


def test_recorded_config_is_that_of_the_installed_backbone(minilm: Path) -> None:
    backbone_import._check_config("minilm", minilm, backbones.registry()["minilm"]["config"])


# One that is not there


@pytest.mark.parametrize("name", LARGE)
def test_missing_backbone_says_what_was_tried_and_how_to_supply_it(name: str, home: Path) -> None:
    ref = backbones.reference(name)
    assert ref.sha256 == ""
    with pytest.raises(OpenMedError, match=f"'{name}' was not found") as caught:
        backbones.find(ref)
    entry = backbones.registry()[name]
    for part in (
        str(home / name),
        f"cache of {entry['hub_id']}: absent",
        "set OPENMED_ALLOW_HUB=1",
        f"hf download {entry['hub_id']} --revision {entry['revision']}",
        "HF_ENDPOINT",
        f"spacy openmed backbones import {name} FOLDER",
        f"$OPENMED_HOME/backbones/{name}",
    ):
        assert part in str(caught.value)


def test_what_the_hub_says_is_told_with_all_that_was_tried(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(ref: BackboneRef, online: bool) -> None:
        if online:
            raise hub.NotThere("401 Client Error")

    monkeypatch.setattr(backbones, "_in_hub", refuse)
    monkeypatch.setenv(backbones.ALLOW_HUB, "1")
    with pytest.raises(OpenMedError, match="401 Client Error") as caught:
        backbones.find(BackboneRef("pubmedbert-large", "", "microsoft/x", "main"))
    assert "cache of microsoft/x: absent" in str(caught.value)
    assert "backbones import pubmedbert-large" in str(caught.value)


def test_repository_without_safetensors_points_to_the_import(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}", encoding="utf8")
    monkeypatch.setattr(backbones, "_in_hub", lambda ref, online: snapshot if online else None)
    monkeypatch.setenv(backbones.ALLOW_HUB, "1")
    with pytest.raises(OpenMedError, match=r"no model\.safetensors.*never pickles") as caught:
        backbones.reference("deberta-v3-large")
    assert "backbones import deberta-v3-large FOLDER" in str(caught.value)


def test_hash_that_is_not_recorded_is_that_of_what_is_there(
    home: Path, tmp_path: Path, downloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(monkeypatch, tmp_path, hub_id="nobody/tiny", revision="main")
    assert backbones.reference("tiny") == BackboneRef("tiny", "", "nobody/tiny", "main")
    folder = import_backbone("tiny", downloaded)
    ref = backbones.reference("tiny")
    assert ref.sha256 == backbones.file_sha256(folder / "model.safetensors")
    assert ref.hub_id == "nobody/tiny"
    # From then on other weights are refused.
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(OpenMedError, match="not the recorded ones"):
        backbones.find(ref)


# Import


def test_import_makes_what_is_loaded(home: Path, downloaded: Path) -> None:
    folder = import_backbone("mine", downloaded)
    assert folder == home / "mine"
    assert backbones.find(backbones.reference("mine")) == folder
    names = {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "config.json").read_bytes() == (downloaded / "config.json").read_bytes()
    source = torch.load(downloaded / "pytorch_model.bin", weights_only=True)
    weights = load_file(str(folder / "model.safetensors"))
    assert not any(name.startswith(("cls.", "bert.")) for name in weights)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert torch.equal(
        weights["encoder.layer.1.output.LayerNorm.weight"],
        source["bert.encoder.layer.1.output.LayerNorm.gamma"],
    )
    encoder = backbones.load_encoder(folder)
    loaded = {n: p for n, p in encoder.named_parameters()}
    # Every weight of the encoder is that of the file, none is left at random.
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[name], weights[name].float()) for name in loaded)
    tokenizer = backbones.load_tokenizer(folder)
    assert [tokenizer.id_to_token(i) for i in encode("Cancer cells", tokenizer).ids] == [
        "cancer",
        "cells",
    ]


def test_import_is_the_same_every_time(home: Path, downloaded: Path, tmp_path: Path) -> None:
    first = import_backbone("mine", downloaded)
    second = import_backbone("mine", downloaded, tmp_path / "elsewhere")
    assert second == tmp_path / "elsewhere"
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.filterwarnings("ignore:The sentencepiece tokenizer that you are converting")
def test_import_of_a_deberta_makes_tokenizer_json(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "deberta"
    source.mkdir()
    entry = backbones.registry()["deberta-v3-large"]["config"]
    config = {
        **entry,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 700,
    }
    (source / "config.json").write_text(json.dumps(config), encoding="utf8")
    train_sentencepiece(source / "spm.model")
    model = AutoModel.from_config(AutoConfig.for_model(**config))
    state = {f"deberta.{name}": value for name, value in model.state_dict().items()}
    state["lm_predictions.lm_head.bias"] = torch.zeros(700)
    save_file(state, str(source / "model.safetensors"), metadata={"format": "pt"})
    folder = import_backbone("deberta", source)
    (folder / "spm.model").unlink()
    alone = backbones.load_tokenizer(folder)
    original = backbones.load_tokenizer(source)
    text = " ".join(SENTENCES)
    assert alone.get_vocab() == original.get_vocab()
    assert encode(text, alone).ids.tolist() == encode(text, original).ids.tolist()
    # DeBERTa's own special tokens are around a window, and [MASK] is there for pre-training.
    assert alone.encode("a").tokens[0::2] == ["[CLS]", "[SEP]"]
    assert alone.token_to_id("[MASK]") is not None
    weights = load_file(str(folder / "model.safetensors"))
    assert set(weights) == set(model.state_dict())


def refused(match: str, name: str, folder: Path, output: Path | None = None) -> None:
    with pytest.raises(OpenMedError, match=match):
        import_backbone(name, folder, output)


def test_config_of_another_model_is_refused(
    home: Path, tmp_path: Path, downloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(monkeypatch, tmp_path, config={**TINY, "num_hidden_layers": 3})
    refused(r"num_hidden_layers is 2, not 3.*name of its own", "tiny", downloaded)
    assert not home.exists()


def test_weights_other_than_the_publishers_are_refused(
    home: Path, tmp_path: Path, downloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"pytorch_model.bin": "0" * 64}
    recorded(monkeypatch, tmp_path, hub_id="nobody/tiny", revision="abc", source_sha256=source)
    refused("has 0000.* at revision abc of nobody/tiny", "tiny", downloaded)
    digest = backbones.file_sha256(downloaded / "pytorch_model.bin")
    source = {"pytorch_model.bin": digest}
    recorded(monkeypatch, tmp_path, hub_id="nobody/tiny", revision="abc", source_sha256=source)
    assert import_backbone("tiny", downloaded).is_dir()


def test_weights_that_do_not_fit_the_config_are_refused(home: Path, downloaded: Path) -> None:
    config = json.loads((downloaded / "config.json").read_text(encoding="utf8"))
    for key, value, match in (
        ("intermediate_size", 48, r"is \(64, 32\), but config\.json asks for \(48, 32\)"),
        ("num_hidden_layers", 3, r"has no encoder\.layer\.2"),
        ("vocab_size", 20, r"tokenizer in .* entries, but config\.json says 20"),
    ):
        (downloaded / "config.json").write_text(json.dumps({**config, key: value}), "utf8")
        refused(match, "mine", downloaded)
    assert not home.exists()


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("boom"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_more_than_weights_runs_nothing(
    home: Path, downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Boom()}, downloaded / "pytorch_model.bin")
    refused("cannot be read as weights and nothing else", "mine", downloaded)
    (downloaded / "pytorch_model.bin").write_bytes(pickle.dumps(Boom()))
    refused("cannot be read as weights and nothing else", "mine", downloaded)
    (downloaded / "pytorch_model.bin").write_bytes(b"PK\x03\x04 truncated")
    refused("truncated", "mine", downloaded)
    assert not (tmp_path / "boom").exists()
    assert not home.exists()


def test_a_pickle_is_not_read_by_an_unsafe_torch(
    home: Path, downloaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1"))
    refused("from version 2.6 on; this is 2.5.1", "mine", downloaded)


def test_bad_requests(
    home: Path, downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused("has no config.json", "mine", tmp_path)
    for name in ("../mine", "a/b", "", ".."):
        refused("no name for a backbone", name, downloaded)
    (tmp_path / "there").mkdir()
    refused("exists", "mine", downloaded, tmp_path / "there")
    (downloaded / "vocab.txt").rename(downloaded / "words.txt")
    refused("No tokenizer can be made", "mine", downloaded)
    (downloaded / "pytorch_model.bin").unlink()
    refused(r"neither model\.safetensors nor pytorch_model\.bin", "mine", downloaded)
    monkeypatch.delenv(backbones.HOME)
    refused("OPENMED_HOME is not set.*--output", "mine", downloaded)


# Command line


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["backbones", *arguments])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


def test_list_and_import_on_the_command_line(home: Path, downloaded: Path) -> None:
    rows = {line.split()[0]: line for line in invoke().splitlines() if line.strip()}
    for name in LARGE:
        assert rows[name].endswith("not here")
    assert "434.0 M" in rows["deberta-v3-large"]
    output = invoke("import", "mine", str(downloaded))
    assert str(home / "mine") in output.replace("\n", "")
    assert backbones.file_sha256(home / "mine" / "model.safetensors") in output
    assert "Others in $OPENMED_HOME/backbones: mine" in invoke()


def test_listing_asks_no_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(ref: BackboneRef, online: bool) -> None:
        assert not online

    monkeypatch.setattr(backbones, "_in_hub", offline)
    monkeypatch.setenv(backbones.ALLOW_HUB, "1")
    assert "not here" in invoke()


def test_errors_are_messages(home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backbones", "import", "mine", str(tmp_path)])
    assert done.exit_code == 1
    assert "has no config.json" in done.output
    assert "Traceback" not in done.output
