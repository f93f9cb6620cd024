"""The user's own annotated files, from the command line to an adapter."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from networks import write_pretraining
from typer.testing import CliRunner

from spacy_openmed import adapters, pretraining
from spacy_openmed.cli.app import app
from spacy_openmed.corpora import formats, own
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

CONFIG = r"""
window = 48
patience = 25
overlap = 10
label_smoothing = 0.0
dropout = 0.0

[lora]
rank = 8
alpha = 16
target_modules = '.*\.(query|key|value|dense)'

[optim]
batch_size = 1
epochs = 25
learning_rate = 5e-3
max_grad_norm = 0.3
precision = "fp32"
"""
NAMES = {"leukemia": "Finding", "hepatitis": "Finding", "brca": "Gene_name", "cyp": "Gene_name"}


@pytest.fixture(scope="module")
def notes() -> list[Document]:
    generator = random.Random(1)
    documents = []
    for number in range(24):
        name = generator.choice(list(NAMES))
        before = generator.choice(["the patient with", "treatment of", "expression in mice of"])
        text = f"{before} {name}, and therapy ({number})."
        start = text.index(name)
        entity = Entity(start, start + len(name), NAMES[name])
        documents.append(Document(f"note{number}", text, [entity]))
    return documents


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "own.toml"
    path.write_text(CONFIG, encoding="utf8")
    return path


def options(backbone: Path, settings: Path, output: Path) -> list[str]:
    chosen = {"backbone": backbone, "config": settings, "output": output}
    return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("notes.jsonl", None),
        ("notes.conll", None),
        ("notes.pubtator", None),
        ("notes.xml", None),
        ("notes", "brat"),
        ("notes.spacy", None),
    ],
)
def test_every_format_gives_the_same_documents(
    notes: list[Document], tmp_path: Path, file: str, name: str | None
) -> None:
    formats.write(notes, tmp_path / file, name)
    found = sorted(own.load(tmp_path / file), key=lambda d: int(d.id.removeprefix("note")))
    # Tokens are written as people write them, so that even their text comes back here.
    assert [d.text for d in found] == [d.text for d in notes]
    assert [d.entities for d in found] == [d.entities for d in notes]


def test_rows_have_their_text_written_as_people_write(
    notes: list[Document], tmp_path: Path
) -> None:
    formats.write(notes, tmp_path / "a.conll")
    formats.write(formats.read(tmp_path / "a.conll"), tmp_path / "a.parquet")
    found = own.load(tmp_path / "a.parquet")
    assert [d.text for d in found] == [d.text for d in notes]
    assert own.label_counts(found) == own.label_counts(notes)


def test_nothing_annotated_is_an_error(tmp_path: Path) -> None:
    formats.write([Document("1", "no entity here", [])], tmp_path / "a.jsonl")
    with pytest.raises(OpenMedError, match=r"a\.jsonl: 1 documents without a single entity"):
        own.load(tmp_path / "a.jsonl")
    with pytest.raises(OpenMedError, match="no format is known"):
        own.load(tmp_path / "a.docx")


def test_train_and_evaluate_on_own_files(
    notes: list[Document], tiny_backbone: Path, settings: Path, tmp_path: Path
) -> None:
    train, dev = tmp_path / "train.spacy", tmp_path / "dev.conll"
    formats.write(notes[:16], train)
    formats.write(notes[16:], dev)
    files = ["--train", str(train), "--dev", str(dev), "--dataset", "our-notes"]
    chosen = options(tiny_backbone, settings, tmp_path / "run")
    run = CliRunner().invoke(app, ["train", *files, *chosen])
    assert run.exit_code == 0, run.output
    assert "train: 16 documents; Finding" in run.output
    adapter = adapters.read(tmp_path / "run" / "adapter")
    assert adapter.info.types == ("Finding", "Gene_name")
    assert adapter.info.dataset == "our-notes"
    record = json.loads(adapter.card[adapters.TRAINING])
    assert record["edition"] is None and record["dev"]["f1"] > 50

    out = tmp_path / "result.json"
    measured = ["--file", str(dev), "--adapter", str(tmp_path / "run" / "adapter")]
    run = CliRunner().invoke(app, ["evaluate", *measured, "--json", str(out)])
    assert run.exit_code == 0, run.output
    result = json.loads(out.read_text())
    assert result["file"] == "dev.conll" and "conll" not in result
    assert result["raw"]["f1"] == pytest.approx(record["dev"]["f1"])
    other = tmp_path / "other.jsonl"
    renamed = [replace(d, entities=[e._replace(label="X") for e in d.entities]) for d in notes]
    formats.write(renamed, other)
    wrong = ["evaluate", "--file", str(other), *measured[2:]]
    run = CliRunner().invoke(app, wrong)
    assert run.exit_code == 1 and "none in common" in run.output
    card = ["card", str(tmp_path / "run" / "adapter"), "--result", str(out)]
    run = CliRunner().invoke(app, card)
    assert run.exit_code == 0, run.output
    text = (tmp_path / "run" / "adapter" / adapters.CARD).read_text(encoding="utf8")
    assert f" hours on {record['energy']['device']}" in text
    assert "| Energy and carbon by TDP | " in text


def test_bad_own_files(
    notes: list[Document], tiny_backbone: Path, settings: Path, tmp_path: Path
) -> None:
    train = tmp_path / "train.jsonl"
    formats.write(notes, train)
    with train.open("a", encoding="utf8") as file:
        file.write('{"text": "cut short", "entit\n')
    chosen = options(tiny_backbone, settings, tmp_path / "run")
    whole = tmp_path / "whole.jsonl"
    formats.write(notes, whole)
    both = ["--train", str(train), "--dev", str(train)]
    for arguments, said in (
        (both, "train.jsonl, line 25"),
        (both[:2], "come together"),
        ([], "Give --dataset"),
        ([*both, "--dataset", "ncbi"], "'ncbi' is a known dataset"),
        ([*both, "--format", "word"], "Unknown format 'word'"),
        (["--train", str(whole), "--dev", str(whole)], "could not choose anything"),
    ):
        run = CliRunner().invoke(app, ["train", *arguments, *chosen])
        assert run.exit_code == 1 and said in run.output, run.output
        assert not (tmp_path / "run").exists()
    assert own.shared_texts(notes[:9], notes[6:]) >= 3
    skipped = Skipped()
    assert len(own.load(train, on_error=skipped)) == 24 and skipped.count == 1


def test_training_builds_on_the_pretraining_that_ships(
    notes: list[Document], tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = write_pretraining(tiny_backbone, tmp_path / "shipped" / "tiny", 1)
    mine = write_pretraining(tiny_backbone, tmp_path / "mine", 2)
    monkeypatch.setattr(pretraining, "SHIPPED", tmp_path / "shipped")
    used: list[Path | None] = []

    def finetune(*args: object, warm_start: Path | None) -> dict[str, object]:
        used.append(cast(Path | None, args[6]))
        return {"dev": {"f1": 50.0}}

    monkeypatch.setattr("spacy_openmed.training.finetune.finetune", finetune)
    formats.write(notes[:16], tmp_path / "train.jsonl")
    formats.write(notes[16:], tmp_path / "dev.jsonl")
    arguments = ["train", "--train", str(tmp_path / "train.jsonl")]
    arguments += ["--dev", str(tmp_path / "dev.jsonl"), "--backbone", str(tiny_backbone)]
    arguments += ["--output", str(tmp_path / "out")]
    for given, said in (
        ([], str(shipped)),
        (["--init-adapter", "none"], "none"),
        (["--init-adapter", str(mine)], str(mine)),
    ):
        run = CliRunner().invoke(app, [*arguments, *given], catch_exceptions=False)
        assert f"pre-training adapter: {said}" in run.output
    assert used == [shipped, None, mine]
    nowhere = ["--init-adapter", str(tmp_path / "nowhere")]
    run = CliRunner().invoke(app, [*arguments, *nowhere])
    assert run.exit_code == 1 and "is not a pre-training adapter" in run.output
