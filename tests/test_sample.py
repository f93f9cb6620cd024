"""The corpus of our own for trying the commands: whole, correct, with the hard cases in it."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spacy_openmed.cli.app import app
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import SPLITS, read_split
from spacy_openmed.corpora.prepare import prepare
from spacy_openmed.corpora.shingles import shingles
from spacy_openmed.corpora.statistics import content_hash
from spacy_openmed.corpora.table3 import table
from spacy_openmed.corpora.verify import verify
from spacy_openmed.errors import OpenMedError
from spacy_openmed.passages import sentences

FOLDER = Path(__file__).parents[1] / "assets" / "sample"
GENRES = {"abstract", "case", "label", "methods", "note", "plain", "question"}
# Runs of words that two texts may have in common by chance are shorter.
RUN = 8


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Document]]:
    return {split: read_split(FOLDER, "sample", split) for split in SPLITS}


def passages(name: str) -> list[str]:
    return (FOLDER / "raw" / name).read_text(encoding="utf8").splitlines()


def count_sentences(texts: list[str]) -> int:
    return sum(len(sentences.split(text)) for text in texts)


def test_it_is_large_enough_and_every_split_has_both_types(
    splits: dict[str, list[Document]],
) -> None:
    counts = {split: count_sentences([d.text for d in docs]) for split, docs in splits.items()}
    assert sum(counts.values()) >= 420 and min(counts.values()) >= 100
    shares = [len(docs) / sum(map(len, splits.values())) for docs in splits.values()]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    for documents in splits.values():
        labels = Counter(e.label for d in documents for e in d.entities)
        assert set(labels) == {"CHEMICAL", "DISEASE"} and min(labels.values()) >= 100
        assert {d.id.rpartition("-")[0] for d in documents} == GENRES


def test_documents_differ_and_none_is_in_two_splits(splits: dict[str, list[Document]]) -> None:
    documents = [d for docs in splits.values() for d in docs]
    assert len({d.id for d in documents}) == len({d.text for d in documents}) == len(documents)
    runs = {
        split: {run for d in docs for run in shingles(d.text, RUN)}
        for split, docs in splits.items()
    }
    assert not runs["train"] & runs["dev"]
    assert not runs["train"] & runs["test"]
    assert not runs["dev"] & runs["test"]


def test_mentions_are_disjoint_and_without_blanks_at_their_ends(
    splits: dict[str, list[Document]],
) -> None:
    for document in (d for docs in splits.values() for d in docs):
        last = 0
        for start, end, *_ in sorted(document.entities):
            mention = document.text[start:end]
            assert mention == mention.strip(), (document.id, mention)
            assert last <= start, (document.id, mention)
            last = end


def test_a_mention_has_one_type(splits: dict[str, list[Document]]) -> None:
    types: dict[str, set[str]] = {}
    for document in (d for docs in splits.values() for d in docs):
        for start, end, label, *_ in document.entities:
            types.setdefault(document.text[start:end].lower(), set()).add(label)
    assert [name for name, found in types.items() if len(found) > 1] == []


def inside_a_token(document: Document) -> int:
    """Mentions with a hyphen and a letter after them: "cisplatin" of "cisplatin-induced"."""
    text = document.text + "  "
    return sum(text[e.end] == "-" and text[e.end + 1].isalpha() for e in document.entities)


def adjacent(document: Document) -> int:
    pairs = pairwise(sorted(document.entities))
    return sum(document.text[a.end : b.start] == " " for a, b in pairs)


def mentions_with(*wanted: str) -> Callable[[Document], int]:
    def count(document: Document) -> int:
        mentions = [document.text[e.start : e.end] for e in document.entities]
        return sum(any(part in mention for part in wanted) for mention in mentions)

    return count


def abbreviations(document: Document) -> int:
    """Short forms in brackets after their long form, each annotated."""
    return sum(
        document.text[a.end : b.start] in (" (", " [") and a.label == b.label
        for a, b in pairwise(sorted(document.entities))
    )


def look_alikes(document: Document) -> int:
    """Words that are elsewhere a mention or its beginning, and mean something else here."""
    phrases = ("cold weather", "cold morning", "stroke of", "lead ", "be rash", "iron will")
    outside = document.text
    for start, end, *_ in document.entities:
        outside = outside[:start] + "_" * (end - start) + outside[end:]
    return sum(phrase in outside.lower() for phrase in phrases)


HARD = {
    "inside a token": (inside_a_token, 2),
    "adjacent": (adjacent, 1),
    "over a line break": (mentions_with("\n"), 1),
    "Greek letters": (mentions_with(*"αβγ"), 1),
    "systematic names with brackets": (mentions_with("-(", "[", ")-"), 1),
    "coordination": (mentions_with(" and "), 1),
    "non-breaking hyphen": (mentions_with("\u2011"), 1),
    "accents and dashes": (mentions_with(*"öü–’"), 1),
    "possessives": (mentions_with("'s", "’s"), 2),
    "abbreviations": (abbreviations, 4),
    "look-alikes": (look_alikes, 2),
    "nothing to find": (lambda d: not d.entities, 1),
    "one sentence": (lambda d: len(sentences.split(d.text)) == 1, 1),
    "twelve sentences": (lambda d: len(sentences.split(d.text)) >= 12, 1),
    "trailing blanks": (lambda d: " \n" in d.text, 1),
    "upper-case headings": (lambda d: any(w.isupper() and len(w) > 5 for w in d.text.split()), 1),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("split", SPLITS)
def test_hard_cases_are_in_every_split(
    splits: dict[str, list[Document]], split: str, case: str
) -> None:
    count, least = HARD[case]
    assert sum(count(document) for document in splits[split]) >= least


def test_text_for_pre_training_is_apart_from_what_is_evaluated_on(
    splits: dict[str, list[Document]],
) -> None:
    train, held_out = passages("train.txt"), passages("heldout.txt")
    flat = {split: [" ".join(d.text.split()) for d in docs] for split, docs in splits.items()}
    further = [text for text in train if text not in flat["train"]]
    assert set(flat["train"]) < set(train)
    assert count_sentences(further) >= 250 and count_sentences(held_out) >= 60
    assert all(3 <= len(sentences.split(text)) <= 8 for text in further + held_out)
    trained_on = {run for text in train for run in shingles(text, RUN)}
    for text in [*flat["dev"], *flat["test"], *held_out]:
        assert trained_on.isdisjoint(shingles(text, RUN)), text
    annotated = {run for texts in flat.values() for text in texts for run in shingles(text, RUN)}
    assert all(annotated.isdisjoint(shingles(text, RUN)) for text in held_out)


def test_the_registry_knows_it_apart_from_the_twelve(splits: dict[str, list[Document]]) -> None:
    dataset = registry.dataset("sample")
    assert dataset.demo and dataset.licence == "Apache-2.0"
    assert len(registry.datasets()) == 12 and "sample" not in registry.datasets()
    assert list(registry.with_demos()) == [*registry.datasets(), "sample"]
    assert "sample" not in table()
    (edition,) = dataset.editions.values()
    for split, documents in splits.items():
        assert edition.splits[split].raw_sha256 == content_hash(documents)
        assert registry.edition_with("sample", split, content_hash(documents)) == edition
    with pytest.raises(OpenMedError, match="sample"):
        registry.dataset("simple")


def test_verify_compares_it_with_the_registry(tmp_path: Path) -> None:
    report = verify(FOLDER)
    assert report.breaches == [] and list(report.datasets) == ["sample"]
    run = CliRunner().invoke(app, ["corpora", "verify", str(FOLDER), "--dataset", "sample"])
    assert run.exit_code == 0
    folder = tmp_path / "ner" / "sample"
    folder.mkdir(parents=True)
    for split in SPLITS:
        text = (FOLDER / "ner" / "sample" / f"{split}.jsonl").read_text(encoding="utf8")
        (folder / f"{split}.jsonl").write_text(text.replace("gout", "gaut"), encoding="utf8")
    assert any("raw_sha256" in breach for breach in verify(tmp_path).breaches)


def test_nobody_misses_it_among_the_corpora(tmp_path: Path) -> None:
    folder = tmp_path / "ner" / "ncbi"
    folder.mkdir(parents=True)
    row = {"id": "1", "text": "Gout hurts.", "entities": [[0, 4, "Disease"]]}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf8")
    report = verify(tmp_path)
    assert "sample" not in report.missing and "bc2gm" in report.missing
    assert verify(tmp_path, ["sample"]).missing == ["sample"]


def test_it_can_be_prepared_like_the_others(tmp_path: Path) -> None:
    record = prepare(registry.dataset("sample"), FOLDER, tmp_path)
    assert record["differences"] == []
    assert (tmp_path / "ner" / "sample" / "train.spacy").is_file()
    with pytest.raises(OpenMedError, match="assets/sample"):
        prepare(registry.dataset("sample"), tmp_path / "empty", tmp_path)


def test_the_readme_has_its_counts(splits: dict[str, list[Document]]) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf8")
    for split, documents in splits.items():
        labels = Counter(e.label for d in documents for e in d.entities)
        texts = [d.text for d in documents]
        row = [len(texts), count_sentences(texts), labels["DISEASE"], labels["CHEMICAL"]]
        assert f"| {split} | {' | '.join(map(str, row))} |" in readme
    for name in ("train.txt", "heldout.txt"):
        texts = passages(name)
        assert f"`raw/{name}`: {len(texts)} passages, {count_sentences(texts)} sentences" in readme
