"""What bulk annotation writes: every format, as other programs and the corpora's readers see it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spacy
from pyarrow import parquet
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_openmed.alignment import align
from spacy_openmed.annotation import annotate
from spacy_openmed.bulk import writers
from spacy_openmed.bulk.options import Options
from spacy_openmed.bulk.records import Found, Skipped
from spacy_openmed.bulk.writers import docbin
from spacy_openmed.bulk.writers import parquet as parquet_writer
from spacy_openmed.corpora import formats
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

TITLED = Document(
    "1", "On BRCA1.\nIt is mutated.", [], passages=[(0, 9, "title"), (10, 24, "abstract")]
)
# A form feed, which XML cannot hold, and line ends.
ODD = Document("a/2", "CYP)-induced\x0cflu,\r\n“cold”.", [])
FOUND = {
    "1": [Found(3, 8, "GENE", 0.9312, "bc2gm"), Found(3, 8, "PROTEIN", 0.5, "jnlpba")],
    "a/2": [Found(0, 3, "CHEMICAL", 0.8, "bc5cdr-chem"), Found(13, 16, "DISEASE", 1.0, "ncbi")],
}


def write(
    target: Path, name: str, documents: list[Document], found: dict[str, list[Found]] = FOUND
) -> list[Skipped]:
    """Each document as a part of its own, with an empty part between."""
    writer = writers.writer(name, target)

    def payloads() -> Iterator[bytes]:
        for document in documents:
            yield writer.payload([writer.piece(document, found.get(document.id, []))])
            yield writer.payload([])

    return writer.join(payloads(), target)


def places(documents: list[Document]) -> list[tuple[str, list[tuple[int, int, str]]]]:
    return [(d.id, [(e.start, e.end, e.label) for e in d.entities]) for d in documents]


EXPECTED = [(d.id, [(f.start, f.end, f.label) for f in FOUND[d.id]]) for d in (TITLED, ODD)]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("jsonl", "out.jsonl"),
        ("pubtator", "out.pubtator"),
        ("bioc", "out.xml"),
        ("bioc", "out.json"),
        ("brat", "out"),
    ],
)
def test_the_readers_of_the_corpora_read_it(tmp_path: Path, name: str, target: str) -> None:
    path = tmp_path / target
    assert write(path, name, [TITLED, ODD]) == []
    read = list(formats.read(path))
    assert places(read) == EXPECTED
    for before, after in zip((TITLED, ODD), read, strict=True):
        # What a format cannot hold is a blank.
        pairs = zip(before.text, after.text, strict=True)
        assert all(a == b or (b == " " and not a.isalnum()) for a, b in pairs)
        if name in ("jsonl", "brat"):
            assert after.text == before.text
        if name != "brat" and before.passages:
            assert after.passages == before.passages


def test_jsonl_and_parquet_have_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", "jsonl", [TITLED, ODD])
    write(tmp_path / "out.parquet", "parquet", [TITLED, ODD])
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    lines = (tmp_path / "out.jsonl").read_text().split("\n")
    for line, row in zip(lines, rows, strict=False):
        written = json.loads(line)
        written.pop("passages", None)
        assert written == row
    assert rows[0]["entities"][0] == {
        "start": 3,
        "end": 8,
        "label": "GENE",
        "text": "BRCA1",
        "score": 0.9312,
        "dataset": "bc2gm",
    }


def test_parquet_joins_parts_to_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(f"{number}", "x" * 1000, []) for number in range(6)]
    write(tmp_path / "a.parquet", "parquet", documents, {})
    assert parquet.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
    monkeypatch.setattr(parquet_writer, "_ROW_GROUP_BYTES", 2000)
    write(tmp_path / "b.parquet", "parquet", documents, {})
    assert parquet.read_metadata(tmp_path / "b.parquet").num_row_groups == 3
    tables = [parquet.read_table(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    assert tables[0].equals(tables[1])


def test_scores_and_datasets_in_bioc_and_brat(tmp_path: Path) -> None:
    from bioc import biocxml

    write(tmp_path / "out.xml", "bioc", [TITLED])
    with (tmp_path / "out.xml").open("rb") as file:
        (document,) = biocxml.load(file).documents
    assert [(p.offset, p.text) for p in document.passages] == [
        (0, "On BRCA1."),
        (10, "It is mutated."),
    ]
    assert document.passages[0].annotations[0].infons == {
        "type": "GENE",
        "score": "0.9312",
        "dataset": "bc2gm",
    }
    write(tmp_path / "out", "brat", [TITLED])
    assert (tmp_path / "out" / "1.ann").read_text() == (
        "T1\tGENE 3 8\tBRCA1\nT2\tPROTEIN 3 8\tBRCA1\n"
        "#1\tAnnotatorNotes T1\t0.9312 bc2gm\n#2\tAnnotatorNotes T2\t0.5000 jnlpba\n"
    )


def test_docs_are_those_of_the_component(tmp_path: Path) -> None:
    write(tmp_path / "out.spacy", "docbin", [TITLED, ODD])
    nlp = spacy.blank("en")
    docs = list(DocBin().from_disk(tmp_path / "out.spacy").get_docs(nlp.vocab))
    for document, doc in zip((TITLED, ODD), docs, strict=True):
        expected = nlp.make_doc(document.text)
        entities = [Entity(*found[:4]) for found in FOUND[document.id]]
        annotate(expected, align(expected, entities, "split"), "both", "openmed", False)
        assert [t.text for t in doc] == [t.text for t in expected]
        assert [(e.start, e.end, e.label_) for e in doc.ents] == [
            (e.start, e.end, e.label_) for e in expected.ents
        ]
        assert doc.spans["openmed"].attrs["scores"] == pytest.approx([e.score for e in entities])
        assert [e._.openmed_score for e in doc.ents] == [e._.openmed_score for e in expected.ents]
        assert doc.user_data["id"] == document.id
    assert places(list(formats.read(tmp_path / "out.spacy"))) == EXPECTED


def test_many_docs_become_a_folder_that_spacy_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [Document(f"{number}", "It is mutated.", []) for number in range(9)]
    monkeypatch.setattr(docbin, "ONE_FILE_TOKENS", 20)
    monkeypatch.setattr(docbin, "SHARD_TOKENS", 8)
    small, large = tmp_path / "small.spacy", tmp_path / "large.spacy"
    write(small, "docbin", documents[:5], {})
    assert small.is_file()
    write(large, "docbin", documents, {})
    assert [path.name for path in sorted(large.iterdir())] == [
        *(f"{number:05}.spacy" for number in range(5)),
    ]
    for path, number in ((small, 5), (large, 9)):
        assert len(list(Corpus(path)(spacy.blank("en")))) == number
        assert [d.id for d in formats.read(path)] == [d.id for d in documents[:number]]
    write(tmp_path / "folder", "docbin", documents[:1], {})
    assert (tmp_path / "folder" / "00000.spacy").is_file()


def test_tokens_of_the_input_stay(tmp_path: Path) -> None:
    document = Document("1", "CYP)-induced flu", [], tokens=[(0, 12), (13, 16)])
    write(tmp_path / "out.spacy", "docbin", [document], {"1": [Found(13, 16, "X", 1.0, "d")]})
    (doc,) = DocBin().from_disk(tmp_path / "out.spacy").get_docs(spacy.blank("en").vocab)
    assert [token.text for token in doc] == ["CYP)-induced", "flu"]


def test_ids_that_brat_cannot_have_or_has_already(tmp_path: Path) -> None:
    documents = [
        Document("1", "First.", []),
        Document("1", "Second.", []),
        Document("x" * 300, "Long.", []),
        Document("1.txt/2", "In a file.", []),
        Document("2", "Last.", []),
    ]
    left_out = write(tmp_path / "out", "brat", documents, {})
    assert [document.text for document in formats.read(tmp_path / "out")] == ["First.", "Last."]
    assert len(left_out) == 3
    assert "those of another document" in left_out[0].reason
    with pytest.raises(OpenMedError, match="cannot be a name"):
        writers.writer("brat", tmp_path / "other").piece(Document("..", "", []), [])


@pytest.mark.parametrize(
    ("output", "changes", "match"),
    [
        ("out", {}, "its name tells no format"),
        ("out.txt", {"output_format": "text"}, "unknown output format 'text'"),
        ("out.txt", {"output_format": "bioc"}, "end in .xml or .json"),
        ("out.txt", {"output_format": "brat"}, "written to a folder"),
    ],
)
def test_outputs_without_a_known_format_are_refused(
    tmp_path: Path, output: str, changes: dict[str, Any], match: str
) -> None:
    chosen = Options(tmp_path / "in.jsonl", tmp_path / output, ("ncbi",), **changes)
    with pytest.raises(OpenMedError, match=match):
        writers.writer(writers.format_of(chosen), chosen.output)


def test_folders_with_other_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.doc").write_text("mine")
    for name in ("brat", "docbin"):
        with pytest.raises(OpenMedError, match="other"):
            writers.writer(name, tmp_path)
