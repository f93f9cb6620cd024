"""Scores by where the text of a document is from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import card_files
import pytest
from card_checks import sections, unfounded
from hypothesis import given
from hypothesis import strategies as st
from report_files import put, suite

from spacy_openmed import adapters
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import errors, evaluate, predictions
from spacy_openmed.evaluation.origins import by_origin, origin
from spacy_openmed.evaluation.predictions import Predictions
from spacy_openmed.evaluation.report import html
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.markdown import render
from spacy_openmed.evaluation.scores import score
from spacy_openmed.evaluation.significance import bootstrap_interval
from spacy_openmed.labelling import innermost
from spacy_openmed.packaging.cards import write_card

TITLE = "By source, raw text"
IDS = {
    "PMID-10": "abstracts",
    "PMC-20-sec-01": "sections of full papers",
    "PMC-20-caption-02": "captions in full papers",
}


def entity(start: int, end: int) -> Entity:
    return Entity(start, end, "ANATOMY", 1.0)


@pytest.mark.parametrize(("document", "source"), IDS.items())
def test_the_ids_of_a_corpus_tell(document: str, source: str) -> None:
    assert origin("anatem", document) == source
    assert origin("bionlp13cg", document) is None


@pytest.mark.parametrize("document", ["", "10", "PMID-", "PMID-10-sec-01", "PMC-20", "xPMID-10"])
def test_other_ids_do_not(document: str) -> None:
    assert origin("anatem", document) is None


PLACES = st.lists(st.sampled_from([entity(0, 4), entity(5, 9), entity(10, 14)]), unique=True)


@given(st.lists(st.tuples(st.sampled_from(sorted(IDS)), PLACES, PLACES), min_size=1))
def test_sources_add_up_to_the_whole(rows: list[tuple[str, list[Entity], list[Entity]]]) -> None:
    documents = [Document(name, "lung skin bone", sorted(gold)) for name, gold, _ in rows]
    found = [sorted(own) for *_, own in rows]
    scores = by_origin("anatem", documents, found)
    names = {IDS[name] for name, *_ in rows}
    if len(names) == 1:
        assert scores == {}
        return
    assert list(scores) == [name for name in IDS.values() if name in names]
    whole = score([d.entities for d in documents], found).micro
    for key in ("tp", "fp", "fn"):
        assert sum(one[key] for one in scores.values()) == getattr(whole, key)
    assert sum(one["documents"] for one in scores.values()) == len(documents)


def test_figures_of_a_source_are_those_of_its_documents_alone() -> None:
    one, two = [entity(0, 4), entity(5, 9)], [entity(0, 4), entity(10, 14)]
    documents = [Document(name, "lung skin bone", one) for name in (*IDS, "PMID-11")]
    scores = by_origin("anatem", documents, [one, [], two, two])
    assert scores["abstracts"] == {
        "documents": 2,
        **score([one, one], [one, two]).micro.to_dict(),
        "f1_ci": list(bootstrap_interval([[2, 0, 0], [1, 1, 1]])),
    }
    assert scores["sections of full papers"]["fn"] == 2
    assert scores["captions in full papers"]["f1"] == 50.0


def test_what_is_nested_counts_as_where_all_is_scored() -> None:
    nested = [entity(0, 9), entity(5, 9)]
    documents = [Document(name, "lung skin", nested) for name in IDS]
    found = [[entity(5, 9)]] * 3
    assert by_origin("anatem", documents, found)["abstracts"]["f1"] == 0
    assert by_origin("anatem", documents, found, innermost)["abstracts"]["f1"] == 100


def test_one_document_of_unknown_source_is_enough_to_say_nothing() -> None:
    documents = [Document(name, "lung", []) for name in (*IDS, "own text")]
    assert by_origin("anatem", documents, [[]] * 4) == {}


def write_split(folder: Path, dataset: str, split: str, ids: Sequence[str]) -> None:
    rows = [{"id": one, "text": "lung skin", "entities": [[0, 4, "Anatomy"]]} for one in ids]
    place = folder / "ner" / dataset
    place.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (place / f"{split}.jsonl").write_text(content, encoding="utf8")


def test_the_analysis_of_a_file_has_them(tmp_path: Path) -> None:
    write_split(tmp_path, "anatem", "train", ["PMID-1"])
    write_split(tmp_path, "anatem", "dev", ["PMID-2", "PMC-3-sec-01"])
    at = evaluate.load("anatem", "dev", tmp_path)
    raw = [evaluate.Found(d.id, d.entities[:n]) for d, n in zip(at.raw, (1, 0), strict=True)]
    model = {"adapter": "ad" * 32, "edges": "word", "trained_on": ["anatem"]}
    path = tmp_path / "predictions.jsonl"
    predictions.write(Predictions("anatem", "dev", at.data, **model, raw=raw), path)
    found = errors.analyse_file(path, tmp_path)["by_source"]
    f1 = {name: one["f1"] for name, one in found.items()}
    assert f1 == {"abstracts": 100.0, "sections of full papers": 0.0}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_document_of_the_corpus_is_told(corpora_dir: Path, split: str) -> None:
    ids = [one.id for one in read_split(corpora_dir, "anatem", split)]
    assert {origin("anatem", one) for one in ids} == set(IDS.values())


# The report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    runs = suite(tmp_path_factory.mktemp("suite"), ["anatem", "ncbi"])
    return collect(runs, runs / "report")


def table(text: str) -> list[list[str]]:
    rows = text.split(f"**{TITLE}**\n\n")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_report_has_them_beside_the_frequencies(report: dict[str, Any]) -> None:
    text = render(report)
    rows = table(text.split("## Bias")[1].split("\n## ")[0])
    (row,) = [
        row for row in report["errors"] if (row["dataset"], row["split"]) == ("anatem", "test")
    ]
    scores = row["by_source"]
    assert [one[:4] for one in rows] == [
        ["`anatem`", "test", name, str(one["documents"])] for name, one in scores.items()
    ]
    few, enough = rows
    parts = scores["sections of full papers"]
    assert few[4:] == ["50.00", "50.00", "50.00", "4"]
    low, high = parts["f1_ci"]
    assert enough[6] == f"{parts['f1']:.2f} [{low:.1f}, {high:.1f}]"
    assert enough[7] == "15"
    page = html.render(report)
    assert TITLE in page and f"[{low:.1f}, {high:.1f}]" in page.rsplit(TITLE, 1)[1]


def test_a_report_without_sources_has_no_such_table(tmp_path: Path) -> None:
    runs = suite(tmp_path, ["ncbi", "anatem"])
    for split in ("dev", "test"):
        path = runs / "results" / f"anatem-{split}.errors.json"
        found = json.loads(path.read_text(encoding="utf8"))
        del found["by_source"]
        put(path, found)
    report = collect(runs, runs)
    assert len(report["errors"]) == 4
    assert TITLE not in render(report) and "Recall by frequency" in render(report)


# The card


def test_the_card_has_them(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = card_files.write_adapter(tiny_backbone, tmp_path / "adapter", "anatem")
    result = card_files.result(folder, "anatem", "test")
    one, two = [entity(0, 4), entity(5, 9)], [entity(0, 4), entity(10, 14)]
    documents = [Document(name, "lung skin bone", one) for name in IDS]
    found = {
        **card_files.errors(folder, result),
        "by_source": by_origin("anatem", documents, [one, two, []]),
    }
    path = card_files.put(tmp_path / "results" / "anatem-test.json", result)
    put(tmp_path / "results" / "anatem-test.errors.json", found)
    write_card(folder, [path])
    card = (folder / adapters.CARD).read_text(encoding="utf8")
    by_title = dict(sections(card))
    shown = by_title["Sources of the text"]
    assert "| sections of full papers | 1 | 50.00 | 50.00 | 50.00 | – | 2 |" in shown
    limits = by_title["Limits"]
    assert "F1 on captions in full papers is 0.00, on 2 mentions, against 50.00 of all" in limits
    names = ("anatem-test.json", "anatem-test.errors.json")
    files = dict(zip(names, (result, found), strict=True))
    for title in ("Sources of the text", "Limits"):
        wrong = unfounded(f"---\n---\n# {title}\n\n{by_title[title]}", files)
        assert not [one for one in wrong if "errors.json" in one]
