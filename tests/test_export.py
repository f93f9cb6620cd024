"""Adapters as checkpoints of transformers: the same predictions, without this project."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import make_checkpoint
from networks import write_pretraining
from spm import SENTENCES
from test_component import make_adapter, make_nlp
from typer.testing import CliRunner

from spacy_openmed import adapters, pretraining
from spacy_openmed.adapters import Adapter
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.packaging.hf_export import export_checkpoint, merged
from spacy_openmed.predictor import Predictor

TYPES = ("DISEASE", "GENE")
LONG = " ".join(SENTENCES * 3)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def folder(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with all there is to merge: pre-training, LoRA, and a temperature."""
    place = tmp_path_factory.mktemp("export")
    found = adapters.read(make_adapter(tiny_backbone, place / "plain", types=TYPES))
    base = pretraining.read(write_pretraining(tiny_backbone, place / "pretraining", 1))
    info = replace(found.info, temperature=1.7, pretraining=base.sha256)
    adapters.write(replace(found, info=info, pretraining=base), place / "adapter")
    return place / "adapter"


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    export_checkpoint(adapters.read(folder), folder.parent / "checkpoint")
    return folder.parent / "checkpoint"


def entities(nlp: Any, text: str) -> list[tuple[int, int, str, float]]:
    return [(e.start_char, e.end_char, e.label_, e._.openmed_score) for e in nlp(text).ents]


@pytest.mark.parametrize("text", [*SENTENCES[:4], "", LONG])
def test_round_trip(folder: Path, exported: Path, text: str) -> None:
    by_adapter, _ = make_nlp(adapter=str(folder))
    by_checkpoint, pipe = make_nlp(checkpoint=str(exported))
    assert pipe.labels == TYPES
    expected, found = entities(by_adapter, text), entities(by_checkpoint, text)
    assert [e[:3] for e in found] == [e[:3] for e in expected]
    assert [e[3] for e in found] == pytest.approx([e[3] for e in expected], abs=1e-4)
    assert text != LONG or len(found) > 20


def test_plain_pipeline_gives_the_same_labels(folder: Path, exported: Path) -> None:
    check_plain_pipeline(folder, exported)


@pytest.mark.parametrize("architecture", ["electra", "roberta", "deberta-v2"])
@pytest.mark.filterwarnings("ignore:The sentencepiece tokenizer that you are converting")
def test_other_architectures(architecture: str, tiny_backbone: Path, tmp_path: Path) -> None:
    backbone = make_checkpoint(tmp_path / "backbone", tiny_backbone, architecture=architecture)
    folder = make_adapter(backbone, tmp_path / "adapter", types=TYPES)
    export_checkpoint(adapters.read(folder), tmp_path / "checkpoint")
    check_plain_pipeline(folder, tmp_path / "checkpoint")
    found, expected = (
        entities(make_nlp(**config)[0], LONG)
        for config in ({"checkpoint": str(tmp_path / "checkpoint")}, {"adapter": str(folder)})
    )
    assert [e[:3] for e in found] == [e[:3] for e in expected] != []
    assert [e[3] for e in found] == pytest.approx([e[3] for e in expected], abs=1e-4)


def check_plain_pipeline(folder: Path, exported: Path) -> None:
    """Labels and scores of wordpieces, from the adapter and from transformers alone."""
    from transformers import pipeline

    ner = pipeline("token-classification", str(exported), ignore_labels=[])
    predictor = Predictor.load(folder)
    labels = predictor.info.labels
    seen = set()
    for text in SENTENCES:
        (encoding,), (logits,) = predictor.tag([text])
        found = ner(text)
        # transformers leaves the blank before a word in some wordpieces.
        assert [e["end"] for e in found] == encoding.ends.tolist()
        assert [e["entity"] for e in found] == [labels[i] for i in logits.argmax(axis=1)]
        powers = np.exp(logits / predictor.info.temperature)
        highest = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
        assert [float(e["score"]) for e in found] == pytest.approx(highest.tolist(), abs=1e-4)
        seen |= {e["entity"] for e in found}
    assert seen == set(labels)


def test_plain_pipeline_reads_long_texts_in_windows(exported: Path) -> None:
    from transformers import pipeline

    ner = pipeline("token-classification", str(exported), aggregation_strategy="simple", stride=50)
    assert ner.tokenizer.model_max_length == 256
    assert len(ner.tokenizer(LONG)["input_ids"]) > 512
    assert max(e["end"] for e in ner(LONG)) > len(LONG) - 200


def test_files(folder: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    config = json.loads((exported / "config.json").read_text(encoding="utf8"))
    labels = ["O", "B-DISEASE", "I-DISEASE", "B-GENE", "I-GENE"]
    assert config["id2label"] == {str(i): label for i, label in enumerate(labels)}
    assert config["label2id"] == {label: i for i, label in enumerate(labels)}
    assert config["architectures"] == ["BertForTokenClassification"]
    tokenizer = json.loads((exported / "tokenizer_config.json").read_text(encoding="utf8"))
    assert tokenizer["model_max_length"] == 256 and tokenizer["pad_token"] == "[PAD]"
    mode = (exported / "model.safetensors").stat().st_mode
    assert mode & stat.S_IROTH
    card = (exported / "README.md").read_text(encoding="utf8")
    assert "`B-GENE`" in card and "1.700" in card and str(folder.parent) not in card


def test_an_export_takes_no_random_numbers(folder: Path, tiny_backbone: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    merged(adapters.read(folder), tiny_backbone)
    assert torch.equal(torch.rand(3), expected)


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="exists"):
        export_checkpoint(adapters.read(folder), tmp_path)
    assert not list(tmp_path.iterdir())


def test_heads_that_are_more_than_a_layer_are_refused(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="4.48", reason="ModernBERT")
    config = transformers.ModernBertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    config.save_pretrained(tmp_path)
    with pytest.raises(OpenMedError, match=r"'modernbert'.*head\.dense"):
        merged(adapters.read(folder), tmp_path)


def test_command(folder: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["export", str(folder), str(tmp_path / "checkpoint")])
    assert done.exit_code == 0 and (tmp_path / "checkpoint" / "config.json").is_file()
    done = run(app, ["export", str(folder), str(tmp_path / "peft"), "--peft"])
    assert done.exit_code == 0 and (tmp_path / "peft" / "adapter_config.json").is_file()
    done = run(app, ["export", str(folder), str(tmp_path / "both"), "--peft", "--onnx"])
    assert done.exit_code == 1 and "Choose one" in done.output
    assert not (tmp_path / "both").exists()


def test_onnx(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra 'onnx'")
    import onnxruntime

    adapter: Adapter = adapters.read(folder)
    export_checkpoint(adapter, tmp_path / "checkpoint", onnx=True)
    graph = tmp_path / "checkpoint" / "onnx" / "model.onnx"
    assert [path.name for path in graph.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(graph))
    model = merged(adapter, tiny_backbone)
    rng = np.random.default_rng(0)
    for size, length in ((1, 1), (1, 512), (3, 20), (5, 2)):
        ids = rng.integers(5, 100, (size, length))
        mask = np.ones_like(ids)
        mask[0, length // 2 + 1 :] = 0
        (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        with torch.inference_mode():
            expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
        kept = mask.astype(bool)
        assert found.shape == (size, length, 5)
        assert found[kept] == pytest.approx(expected[kept], abs=1e-4)


def test_onnx_says_what_it_needs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    with pytest.raises(OpenMedError, match=r"onnxscript.*spacy-openmed\[onnx\]"):
        export_checkpoint(adapters.read(folder), tmp_path / "out", onnx=True)
    assert not list(tmp_path.iterdir())
