"""spaCy's own commands on openmed_ner."""

import json
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import DocBin
from spacy.util import registry
from test_component import GOLD, TEXT, examples, make_adapter, make_nlp, texts_like
from typer.testing import CliRunner

CONFIG = Path(__file__).parents[1] / "configs" / "spacy-train.cfg"


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


def write_docs(path, docs):
    DocBin(docs=docs, store_user_data=False).to_disk(path)
    return path


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    """Training data."""
    nlp = spacy.blank("en")
    docs = []
    for text, entities in GOLD * 4:
        doc = nlp.make_doc(text)
        doc.set_ents([doc.char_span(*entity) for entity in entities])
        docs.append(doc)
    return write_docs(tmp_path_factory.mktemp("gold") / "gold.spacy", docs)


@pytest.fixture(scope="module")
def overrides(tiny_backbone, gold):
    values = {
        "paths.train": gold,
        "paths.dev": gold,
        "components.openmed_ner.backbone": tiny_backbone,
        "components.openmed_ner.model.rank": 4,
        "training.optimizer.learn_rate.warmup_steps": 1,
        "training.optimizer.learn_rate.initial_rate": 0.01,
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, overrides):
    output = tmp_path_factory.mktemp("trained")
    steps = ["--training.max_steps", "4", "--training.eval_frequency", "2"]
    return output, run("train", CONFIG, "--output", output, *overrides, *steps)


@pytest.fixture(scope="module")
def annotated(tiny_backbone, tmp_path_factory):
    """A pipeline, and data on which it is right everywhere."""
    folder = tmp_path_factory.mktemp("annotated")
    adapter = make_adapter(tiny_backbone, folder / "adapter")
    nlp, _ = make_nlp(adapter=str(adapter), alignment="expand")
    docs = list(nlp.pipe(texts_like(TEXT, 6)))
    assert all(doc.ents for doc in docs)
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline", write_docs(folder / "docs.spacy", docs)


def test_openmed_is_one_of_spacys_commands():
    registry.cli.get_all()  # as spaCy does before it runs a command
    output = run("openmed", "--help")
    for command in ("train", "evaluate", "package", "show", "dapt"):
        assert command in output


def test_train(trained):
    output, log = trained
    assert "openmed_ner" in log.lower() and "LOSS OPENM" in log
    for name in ("model-best", "model-last"):
        nlp = spacy.load(output / name)
        assert nlp.get_pipe("openmed_ner").labels == ("DISEASE",)
        assert nlp.meta["performance"].keys() >= {"ents_f", "ents_p", "ents_r", "openmed_ner_loss"}
        assert nlp(TEXT).has_annotation("ENT_IOB")
    # It goes on learning after an evaluation.
    losses = [line.split()[2] for line in log.splitlines() if line[:3].strip().isdigit()]
    assert len(losses) == 3 and len(set(losses)) == 3


def test_evaluate(trained, gold, tmp_path):
    output, _ = trained
    run("evaluate", output / "model-last", gold, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    saved = spacy.load(output / "model-last").meta["performance"]
    assert scores["ents_f"] == pytest.approx(saved["ents_f"], abs=1e-3)


def test_evaluate_of_what_is_right(annotated, tmp_path):
    pipeline, docs = annotated
    run("evaluate", pipeline, docs, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["ents_f"] == 1.0
    assert scores["ents_per_type"]["DISEASE"]["r"] == 1.0


def test_benchmark_speed(annotated):
    pipeline, docs = annotated
    output = run(
        *("benchmark", "speed", pipeline, docs),
        *("--batches", 30, "--warmup", 1, "--batch-size", 6),
    )
    assert "words/s" in output.lower() or "mean" in output.lower()


def test_find_threshold(annotated, capsys):
    pipeline, docs = annotated
    best, score, scores = find_threshold(
        pipeline, docs, "openmed_ner", "threshold", "ents_f", n_trials=3
    )
    assert list(scores) == [0.0, 0.5, 1.0]
    assert (best, score) == (0.0, 1.0)
    assert 1.0 > scores[0.5] > scores[1.0] >= 0.0


def test_init_labels(overrides, tmp_path):
    run("init", "labels", CONFIG, tmp_path / "labels", *overrides)
    assert json.loads((tmp_path / "labels" / "openmed_ner.json").read_text()) == ["DISEASE"]


def test_debug_config(overrides, tmp_path):
    run("init", "fill-config", CONFIG, tmp_path / "filled.cfg")
    assert "Config is valid" in run("debug", "config", tmp_path / "filled.cfg", *overrides)


def test_trained_pipeline_goes_on(trained):
    output, _ = trained
    nlp = spacy.load(output / "model-last")
    with nlp.select_pipes(enable="openmed_ner"):
        optimizer = nlp.resume_training()
        losses = [nlp.update(examples(nlp), sgd=optimizer)["openmed_ner"] for _ in range(15)]
    assert losses[-1] < losses[0]
