"""What bulk annotation reads: every format, ids, and rows that cannot be read."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from spacy.tokens import DocBin, Span

from spacy_openmed.bulk import readers, sources
from spacy_openmed.bulk.options import Options
from spacy_openmed.bulk.records import Part, Row, Skipped, parts
from spacy_openmed.corpora.documents import Document
from spacy_openmed.errors import OpenMedError

CITATION = (
    "<PubmedArticle><MedlineCitation><PMID Version='1'>{}</PMID><Article>{}</Article>"
    "</MedlineCitation></PubmedArticle>"
)


def options(path: Path, **changes: object) -> Options:
    return Options(path, path.parent / "out.jsonl", ("ncbi",), **changes)  # type: ignore[arg-type]


def rows(path: Path, **changes: object) -> list[Row]:
    chosen = options(path, **changes)
    return [row for source in sources.find(chosen) for row in readers.read(source, chosen)]


def texts(found: list[Row]) -> list[tuple[str, str]]:
    return [(row.id, row.text) for row in found if isinstance(row, Document)]


def skipped(found: list[Row]) -> list[Skipped]:
    return [row for row in found if isinstance(row, Skipped)]


def counted(path: Path, **changes: object) -> int:
    return sum(readers.count(source) for source in sources.find(options(path, **changes)))


def test_text_files_are_documents_in_sorted_order(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "1.txt").write_bytes("Fièvre.\r\nToux.".encode())
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfFlu.\n")
    (folder / "c.txt").write_bytes(b"caf\xe9")
    (folder / ".hidden.txt").write_bytes(b"no")
    found = rows(folder)
    assert texts(found) == [("a", "Flu.\n"), ("b/1", "Fièvre.\r\nToux.")]
    assert skipped(found)[0].where == "c.txt" and skipped(found)[0].kind == "not UTF-8"
    assert texts(rows(folder / "a.txt")) == [("a", "Flu.\n")]
    assert counted(folder) == 3


def test_parts_of_a_folder_of_text_are_sources(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("a")
    found = sources.find(options(tmp_path, part_documents=2))
    assert [source.names for source in found] == [
        ("0.txt", "1.txt"),
        ("2.txt", "3.txt"),
        ("4.txt",),
    ]


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt.gz"
    path.write_bytes(gzip.compress(b"Flu.\n\n\xff\nCold.\n"))
    found = rows(path, lines=True)
    assert texts(found) == [("notes.txt.gz:1", "Flu."), ("notes.txt.gz:4", "Cold.")]
    assert [one.where for one in skipped(found)] == ["notes.txt.gz, line 3"]
    assert counted(path, lines=True) == 3


def test_jsonl_with_other_fields_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        '{"pmid": 7, "abstract": "Flu."}',
        '{"abstract": "Cold."}',
        '{"pmid": "x", "abstract": ""}',
        '{"pmid": 8}',
        '{"pmid": 9, "abstract": null}',
        '{"pmid": 9, "abstract": ["a"]}',
        '{"pmid": [9], "abstract": "a"}',
        '{"pmid": 9, "abstract": "\\ud800"}',
        "[1]",
        "{",
    ]
    path.write_text("\n".join(lines) + "\n")
    found = rows(path, text_field="abstract", id_field="pmid")
    assert texts(found) == [("7", "Flu."), ("in.jsonl:2", "Cold."), ("x", "")]
    assert [(one.where, one.kind) for one in skipped(found)] == [
        ("in.jsonl:4", "no field 'abstract'"),
        ("in.jsonl:5", "no field 'abstract'"),
        ("in.jsonl:6", "field 'abstract' is no text"),
        ("in.jsonl:7", "field 'pmid' is no id"),
        ("in.jsonl:8", "not UTF-8, or half a surrogate pair"),
        ("in.jsonl:9", "no JSON object"),
        ("in.jsonl:10", "not JSON"),
    ]
    assert counted(path) == 10


def test_gzip_that_breaks_off_costs_the_rest_of_its_file_only(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"{number} " + "x" * 50}) for number in range(2000)]
    whole = gzip.compress("\n".join(lines).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jsonl").write_text('{"id": "last", "text": "Flu."}')
    found = rows(tmp_path)
    assert texts(found)[0][0] == "a.jsonl.gz:1" and texts(found)[-1] == ("last", "Flu.")
    (broken,) = skipped(found)
    assert broken.where.startswith("a.jsonl.gz, line") and "truncated" in broken.reason


def test_csv_and_tsv(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'ID,Text\n1,"Flu,\nand cold."\n,Fever.\n3\n4,\xe9\n5,""\n')
    found = rows(path)
    assert texts(found) == [("1", "Flu,\nand cold."), ("in.csv:4", "Fever."), ("5", "")]
    assert [one.where for one in skipped(found)] == ["in.csv, line 5", "in.csv, line 6"]
    assert counted(path) == 5
    tsv = tmp_path / "in.tsv"
    tsv.write_text("note\tother\nFlu.\tx\n")
    assert texts(rows(tsv, text_field="note")) == [("in.tsv:2", "Flu.")]
    (missing,) = skipped(rows(tsv))
    assert "no column text among 'note, other'" in missing.reason


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = pa.table({"id": [1, None, 3], "text": ["Flu.", "Cold.", None], "other": [1, 2, 3]})
    parquet.write_table(table, path, row_group_size=1)
    found = rows(path)
    assert texts(found) == [("1", "Flu."), ("in.parquet:2", "Cold.")]
    assert [one.where for one in skipped(found)] == ["in.parquet:3"]
    assert counted(path) == 3
    assert "columns: id, text, other" in skipped(rows(path, text_field="note"))[0].reason


def test_parquet_with_bytes_that_are_no_text_or_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    column = pa.array([b"Flu.", b"\xff", b"Cold."], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": column}), path)
    found = rows(path)
    assert [text for _, text in texts(found)] == ["Flu.", "Cold."]
    assert skipped(found)[0].where == "in.parquet:2"
    path.write_bytes(path.read_bytes()[:-10])
    assert "no Parquet" in skipped(rows(path))[0].reason


def test_pubmed_is_title_line_break_abstract(tmp_path: Path) -> None:
    path = tmp_path / "pubmed.xml.gz"
    articles = [
        CITATION.format(
            1,
            "<ArticleTitle>On <i>BRCA1</i>.</ArticleTitle><Abstract><AbstractText Label='AIM'>To"
            " see.</AbstractText><AbstractText>Done.</AbstractText></Abstract>",
        ),
        CITATION.format(2, "<ArticleTitle>Alone.</ArticleTitle>"),
        CITATION.format(3, "<Abstract><AbstractText>No title.</AbstractText></Abstract>"),
        CITATION.format(4, ""),
        CITATION.format("x", "<ArticleTitle>Bad.</ArticleTitle>"),
    ]
    content = f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>"
    path.write_bytes(gzip.compress(content.encode()))
    found = rows(path)
    assert texts(found) == [
        ("1", "On BRCA1.\nAIM: To see. Done."),
        ("2", "Alone."),
        ("3", "\nNo title."),
    ]
    first, second, third = (row for row in found if isinstance(row, Document))
    assert first.passages == [(0, 9, "title"), (10, 28, "abstract")]
    assert second.passages == [(0, 6, "title")]
    assert third.passages == [(0, 0, "title"), (1, 10, "abstract")]
    assert [one.kind for one in skipped(found)] == [
        "neither title nor abstract",
        "PMID 'x' is no PubMed id",
    ]
    assert counted(path) == 5
    path.write_bytes(gzip.compress(content[:-100].encode()))
    assert len(texts(rows(path))) == 3 and "not well-formed" in skipped(rows(path))[-1].reason


def test_spacy_files_give_tokens_and_no_annotations(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    doc = nlp("Flu-like. Cold.")
    # Groups between which a reader of annotations could not choose.
    doc.spans["a"] = doc.spans["b"] = [Span(doc, 0, 1, "X")]
    doc.user_data["id"] = "first"
    path = tmp_path / "in.spacy"
    DocBin(docs=[doc, nlp("Fever.")], store_user_data=True, attrs=["SENT_START"]).to_disk(path)
    found = rows(path)
    assert texts(found) == [("first", "Flu-like. Cold."), ("in.spacy:2", "Fever.")]
    document = found[0]
    assert isinstance(document, Document)
    assert document.tokens[:2] == [(0, 3), (3, 4)] and len(document.sentences) == 2
    assert not document.entities
    assert counted(path) == 2
    path.write_bytes(b"no")
    assert "not a DocBin" in skipped(rows(path))[0].reason


def test_inputs_without_a_known_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="no such file"):
        sources.find(options(tmp_path / "absent.jsonl"))
    (tmp_path / "a.doc").write_text("a")
    with pytest.raises(OpenMedError, match=r"no known format.*--input-format"):
        sources.find(options(tmp_path / "a.doc"))
    assert texts(rows(tmp_path / "a.doc", input_format="text")) == [("a.doc", "a")]
    with pytest.raises(OpenMedError, match="Unknown input format 'doc'"):
        sources.find(options(tmp_path / "a.doc", input_format="doc"))
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_text("a")
    with pytest.raises(OpenMedError, match=r"several formats \(jsonl, text\)"):
        sources.find(options(tmp_path))
    assert [id for id, _ in texts(rows(tmp_path, input_format="text"))] == ["a"]
    with pytest.raises(OpenMedError, match="--lines is for text"):
        sources.find(options(tmp_path / "b.jsonl", lines=True))


@given(
    st.lists(st.one_of(st.text(max_size=9), st.none()), max_size=30),
    st.integers(1, 7),
    st.integers(1, 20),
)
def test_parts_keep_all_rows_in_order(
    contents: list[str | None], size: int, characters: int
) -> None:
    given_rows: list[Row] = [
        Skipped(f"{i}", "bad") if text is None else Document(f"{i}", text, [])
        for i, text in enumerate(contents)
    ]
    found = list(parts(given_rows, 3, size, characters))
    assert [part.number for part in found] == list(range(len(found)))
    assert [part.last for part in found] == [False] * (len(found) - 1) + [True]
    assert [d for part in found for d in part.documents] == [
        row for row in given_rows if isinstance(row, Document)
    ]
    assert [s for part in found for s in part.skipped] == [
        row for row in given_rows if isinstance(row, Skipped)
    ]
    for part in found:
        assert part.source == 3
        assert len(part.documents) + len(part.skipped) <= size
        assert sum(len(d.text) for d in part.documents[:-1]) < characters
        assert Part.from_bytes(part.to_bytes()) == part
