"""Comparing a folder with the registry, on a corpus of our own and on the real ones."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spacy_openmed.cli.app import app
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.duplicates import Sentences, merged, shared_percent
from spacy_openmed.corpora.registry import Dataset, Edition, Overlap
from spacy_openmed.corpora.shingles import shingles
from spacy_openmed.corpora.statistics import SplitStatistics, content_hash
from spacy_openmed.corpora.verify import verify
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

SENTENCES = {
    "train": "Patients with gout who took colchicine had fewer flares of gout",
    "dev": "Asthma was worse in winter among children who lived near busy roads",
    "test": "Patients with gout who took colchicine had fewer flares of gout",
}
DISEASES = ("gout", "Asthma")


def write_corpus(folder: Path) -> None:
    """Two sentences a split; those of test repeat the ones of train."""
    folder.mkdir(parents=True)
    for split, text in SENTENCES.items():
        entities = [
            [i, i + len(name), "Disease"]
            for name in DISEASES
            for i in range(len(text))
            if text.startswith(name, i)
        ]
        row = {"id": split, "text": text, "entities": entities}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf8")
        lines = [f"{w}\t{'B-Disease' if w in DISEASES else 'O'}" for w in text.split()]
        (folder / f"{split}.conll").write_text("\n".join(lines) + "\n", encoding="utf8")


def toy(name: str, statistics: dict[str, SplitStatistics]) -> Dataset:
    repeated = {"dev_in_train": (0, 0), "test_in_train": (1, 1), "test_in_dev": (0, 0)}
    edition = Edition("official", splits=statistics, repeated=repeated)
    wrong = Edition("other", splits={s: SplitStatistics(documents=9) for s in SENTENCES})
    return Dataset(
        id=name,
        name=name,
        types={"Disease": "DISEASE"},
        licence="",
        format="",
        split="",
        citation="",
        sources=(),
        editions={"other": wrong, "official": edition},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two datasets with one text, and a registry that has their counts and overlaps."""
    for name in ("toy", "twin"):
        write_corpus(tmp_path / "ner" / name)
    counts = {
        "train": SplitStatistics(1, 2, {"DISEASE": 2}, None, 1, 11, 2),
        "dev": SplitStatistics(1, 1, {"DISEASE": 1}, None, 1, 12, 1),
        "test": SplitStatistics(1, 2, {"DISEASE": 2}, None, 1, 11, 2),
    }
    known = {name: toy(name, counts) for name in ("toy", "twin", "absent")}
    monkeypatch.setattr(registry, "_load", lambda: (known, []))
    return tmp_path


def test_what_the_registry_has_is_no_breach(folder: Path) -> None:
    report = verify(folder)
    assert report.breaches == []
    assert list(report.datasets) == ["toy", "twin"] and report.missing == ["absent"]
    assert report.datasets["toy"].edition.id == "official"
    assert report.datasets["toy"].repeated["test_in_train"] == (1, 1)
    assert report.overlaps == []


def test_a_folder_of_one_corpus_without_ner_is_understood(folder: Path) -> None:
    assert verify(folder / "ner").breaches == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("dev.jsonl", "[[0, 6,", "[[0, 99,", "dev.jsonl, line 1: entity 0 to 99"),
        ("dev.jsonl", "[[0, 6, ", '[[0, 6, "Disease"], [0, 3, ', "dev: mentions 2"),
        ("dev.jsonl", '"Disease"', '"Virus"', "unexpected type 'Virus'"),
        ("dev.conll", "B-Disease", "I-Disease", "dev.conll, line 1: I-Disease"),
        ("dev.conll", "winter\tO", "winter\tB-Disease", "dev: entities 2"),
        ("dev.conll", "winter\tO\n", "winter\tO\n\n", "dev: sentences 2"),
        ("dev.conll", "winter\tO\n", "", "dev: tokens 11"),
        ("test.conll", "flares", "attacks", "test_in_train (0, 0)"),
    ],
)
def test_every_kind_of_difference_is_a_breach(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    path = folder / "ner" / "toy" / file
    text = path.read_text(encoding="utf8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf8")
    breaches = verify(folder).breaches
    assert any(message in breach and breach.startswith("toy: ") for breach in breaches)
    assert not any("twin" in breach for breach in breaches)


def test_a_hash_tells_texts_of_equal_counts_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SENTENCES["dev"]
    digest = content_hash([Document("dev", text, [Entity(0, 6, "DISEASE")])])
    dataset = toy("toy", {"dev": SplitStatistics(raw_sha256=digest)})
    monkeypatch.setattr(registry, "_load", lambda: ({"toy": dataset}, []))
    assert verify(folder).breaches == []
    path = folder / "ner" / "toy" / "dev.jsonl"
    path.write_text(path.read_text(encoding="utf8").replace("winter", "summer"), encoding="utf8")
    assert ["raw_sha256" in breach for breach in verify(folder).breaches] == [True]


def test_a_damaged_copy_is_still_that_edition(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few recorded values are no advantage: all of them differ."""
    whole = replace(registry.dataset("toy").editions["official"], id="part")
    few = Edition("few", splits={s: SplitStatistics(documents=9) for s in SENTENCES})
    dataset = replace(registry.dataset("toy"), editions={"few": few, "part": whole})
    monkeypatch.setattr(registry, "_load", lambda: ({"toy": dataset}, []))
    for split in SENTENCES:
        path = folder / "ner" / "toy" / f"{split}.conll"
        path.write_text(path.read_text(encoding="utf8") + "more\tO\n", encoding="utf8")
    report = verify(folder)
    assert report.datasets["toy"].edition.id == "part"
    assert [breach.split(",")[0] for breach in report.breaches] == [
        "toy: train: tokens 12",
        "toy: dev: tokens 13",
        "toy: test: tokens 12",
    ]


def test_missing_files_and_datasets(folder: Path, tmp_path: Path) -> None:
    (folder / "ner" / "toy" / "dev.conll").unlink()
    assert "toy: dev: tokens None, the registry has 12" in verify(folder).breaches
    (folder / "ner" / "toy" / "dev.jsonl").unlink()
    assert any("No dev.jsonl of 'toy'" in breach for breach in verify(folder).breaches)
    assert verify(folder, ["twin"]).breaches == []
    assert any("absent: not in" in breach for breach in verify(folder, ["absent"]).breaches)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OpenMedError, match="No corpus in"):
        verify(empty)


def test_overlaps_are_compared_with_the_registry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    for name, split in (("toy", "train"), ("twin", "dev")):
        path = folder / "ner" / name / f"{split}.jsonl"
        path.write_text(json.dumps({"text": long, "entities": []}) + "\n", encoding="utf8")
    # Overlaps are compared where the very texts are recorded.
    hashed = {name: toy(name, {"dev": SplitStatistics(raw_sha256="0")}) for name in ("toy", "twin")}
    monkeypatch.setattr(registry, "_load", lambda: (hashed, []))
    expected = Overlap("twin", "dev", "toy", 100.0)
    report = verify(folder)
    assert report.overlaps == [expected]
    assert any("100.0 percent of twin dev" in breach for breach in report.breaches)
    known = registry.datasets()
    monkeypatch.setattr(registry, "_load", lambda: (known, [expected]))
    assert not any("percent" in breach for breach in verify(folder).breaches)
    monkeypatch.setattr(registry, "_load", lambda: (known, [Overlap("twin", "dev", "toy", 7.0)]))
    assert sum("percent" in breach for breach in verify(folder).breaches) == 2


words = st.lists(st.sampled_from("abc"), max_size=12)


@given(words, words, st.integers(1, 4))
def test_shingles_are_runs_of_words(one: list[str], two: list[str], size: int) -> None:
    def runs(text: list[str]) -> set[tuple[str, ...]]:
        return {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}

    first, second = shingles(" ".join(one), size), shingles("-".join(two).upper(), size)
    assert len(first) == len(runs(one))
    shared = len(runs(one) & runs(two))
    expected = 100 * shared / len(runs(one)) if runs(one) else 0.0
    assert shared_percent(first, merged([second])) == pytest.approx(expected)


@given(st.lists(st.sampled_from(["a b", "c", "a b c d e f g h"]), max_size=6), st.integers(0, 6))
def test_repeated_sentences_are_counted_with_repetitions(texts: list[str], cut: int) -> None:
    parts = []
    for group in (texts[:cut], texts[cut:]):
        part = Sentences()
        for text in group:
            edges = [(i, i + 1) for i in range(0, len(text), 2)]
            part.add(Document("", text, [], edges, [(0, len(edges))]))
        parts.append(part)
    known = set(texts[:cut])
    repeated = [text for text in texts[cut:] if text in known]
    assert parts[1].found_in(parts[0]) == (len(repeated), sum(len(t) > 8 for t in repeated))


def test_command_exits_with_1_on_a_breach(folder: Path) -> None:
    out = folder / "out" / "report.json"
    run = CliRunner().invoke(app, ["corpora", "verify", str(folder), "--json", str(out)])
    assert run.exit_code == 0 and "2 datasets" in run.output
    assert json.loads(out.read_text())["datasets"]["toy"]["splits"]["dev"]["tokens"] == 12
    shutil.rmtree(folder / "ner" / "twin")
    run = CliRunner().invoke(app, ["corpora", "verify", str(folder), "--dataset", "twin"])
    assert run.exit_code == 1 and "twin: not in" in run.output


def test_commands_list_and_show(corpora_environment: Path) -> None:
    run = CliRunner().invoke(app, ["corpora"])
    assert run.exit_code == 0
    assert all(name in run.output for name in registry.datasets())
    run = CliRunner().invoke(app, ["corpora", "show", "jnlpba"])
    assert run.exit_code == 0 and "46750" in run.output and "98 long sentences" in run.output
    run = CliRunner().invoke(app, ["corpora", "show", "fsu"])
    assert "julielab" in run.output


@pytest.fixture
def corpora_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENMED_CORPORA", str(tmp_path))
    return tmp_path


def test_the_corpora_are_as_the_registry_has_them(corpora_dir: Path) -> None:
    report = verify(corpora_dir)
    assert report.breaches == []
    assert set(report.datasets) | set(report.missing) == set(registry.datasets())
    if "bc4chemd" in report.datasets:
        assert report.datasets["bc4chemd"].edition.id in ("official", "tenth")
    if "jnlpba" in report.datasets:
        assert report.datasets["jnlpba"].repeated["test_in_train"] == (108, 98)
