"""What all formats have in common, and JSONL in the shapes that others write."""

import importlib
import inspect
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora import formats
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.formats import FORMATS, jsonl, rows
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.labelling import outermost

# A target of each format; the second name of a format in brackets.
TARGETS = {
    "jsonl": "out.jsonl",
    "conll": "out.conll",
    "pubtator": "out.pubtator",
    "bioc (XML)": "out.xml",
    "bioc (JSON)": "out.json",
    "brat": "out",
    "docbin": "out.spacy",
    "docbin (folder)": "out",
    "rows": "out.parquet",
}
READ_AS_TEXT = ("jsonl", "conll", "pubtator")


def name_of(case: str) -> str:
    return case.split()[0]


def sample(number: int = 0) -> Document:
    """Two sentences with a nested mention, concepts and passages."""
    text = "Lung cancer . CYP2D6 was low ."
    return Document(
        f"doc{number}",
        text,
        [Entity(0, 4, "ANATOMY"), Entity(0, 11, "DISEASE"), Entity(14, 20, "GENE")],
        tokens=[(0, 4), (5, 11), (12, 13), (14, 20), (21, 24), (25, 28), (29, 30)],
        sentences=[(0, 3), (3, 7)],
        concepts={(0, 11, "DISEASE"): "D008175", (14, 20, "GENE"): "1565"},
        passages=[(0, 13, "title"), (14, 30, "abstract")],
    )


# Names


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("train.jsonl", "jsonl"),
        ("a.b.NDJSON", "jsonl"),
        ("dev.conll", "conll"),
        ("dev.tsv", "conll"),
        ("corpus.PubTator.txt", "pubtator"),
        ("corpus.pubtator", "pubtator"),
        ("corpus.xml", "bioc"),
        ("corpus.json", "bioc"),
        ("train.spacy", "docbin"),
        ("train-00000-of-00001.parquet", "rows"),
        ("data-00000-of-00001.arrow", "rows"),
    ],
)
def test_format_by_file_name(file: str, name: str) -> None:
    assert formats.guess(Path("folder.jsonl") / file).name == name


@pytest.mark.parametrize(
    ("inside", "name"),
    [
        (["1.txt", "1.ann"], "brat"),
        (["00000.spacy"], "docbin"),
        (["state.json", "dataset_info.json", "data-00000-of-00001.arrow"], "rows"),
        (["data/train-00000-of-00001.parquet"], "rows"),
    ],
)
def test_format_by_what_lies_in_a_folder(tmp_path: Path, inside: list[str], name: str) -> None:
    for file in inside:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert formats.guess(tmp_path).name == name


@pytest.mark.parametrize("name", ["notes.docx", "train", "train.txt", "jsonl"])
def test_unknown_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OpenMedError, match=rf"{name}: no format.*jsonl, conll, .*\.parquet"):
        formats.guess(tmp_path / name)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OpenMedError, match="no format is known"):
        formats.guess(tmp_path)


def test_unknown_format_lists_those_known() -> None:
    with pytest.raises(OpenMedError, match=r"'spacy'.*docbin"):
        formats.find("spacy")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_and_writes(name: str) -> None:
    module = importlib.import_module(f"spacy_openmed.corpora.formats.{name}")
    assert list(inspect.signature(module.read).parameters)[:3] == ["path", "types", "on_error"]
    assert list(inspect.signature(module.write).parameters)[:2] == ["documents", "path"]


def test_suffixes_belong_to_one_format() -> None:
    suffixes = [suffix for f in FORMATS.values() for suffix in f.suffixes]
    assert len(suffixes) == len(set(suffixes))


# All formats


@pytest.mark.parametrize("case", TARGETS)
def test_formats_carry_what_they_say(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    written = [sample(0), sample(1)]
    formats.write(written, path, name_of(case))
    found = list(formats.read(path, name=name_of(case)))
    carries = FORMATS[name_of(case)].carries
    assert len(found) == 2
    for old, new in zip(written, found, strict=True):
        assert new.text == old.text
        assert new.id in (old.id, "")
        kept = old.entities if "nested" in carries else outermost(old.entities)
        assert sorted(new.entities) == sorted(kept)
        assert dict(new.concepts) == (dict(old.concepts) if "concepts" in carries else {})
        assert ([tuple(p) for p in new.passages] == old.passages) == ("passages" in carries)
        if "tokens" in carries:
            assert new.tokens == old.tokens
        if "sentences" in carries:
            assert new.sentences == old.sentences


@pytest.mark.parametrize("case", TARGETS)
def test_types_become_labels(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    formats.write([sample()], path, name_of(case))
    types = {"ANATOMY": "A", "DISEASE": "D", "GENE": "G"}
    (found,) = formats.read(path, types, name=name_of(case))
    assert {e.label for e in found.entities} in ({"A", "D", "G"}, {"D", "G"})
    with pytest.raises(OpenMedError, match=rf"{path.name}.*'GENE'.*ANATOMY, DISEASE"):
        list(formats.read(path, {"ANATOMY": "A", "DISEASE": "D"}, name=name_of(case)))


def broken_off() -> Iterator[Document]:
    yield sample(0)
    yield sample(1)
    raise RuntimeError("the source failed")


@pytest.mark.parametrize("case", TARGETS)
def test_what_fails_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    with pytest.raises(RuntimeError, match="the source failed"):
        formats.write(broken_off(), path, name_of(case))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", TARGETS)
def test_what_fails_leaves_the_old_file_as_it_was(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    formats.write([sample(7)], path, name_of(case))
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match="the source failed"):
        formats.write(broken_off(), path, name_of(case))
    assert contents(tmp_path) == before
    formats.write([sample(8)], path, name_of(case))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    assert contents(tmp_path) != before


@pytest.mark.parametrize("case", [case for case in TARGETS if "." in TARGETS[case]])
def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    path.mkdir()
    with pytest.raises(OpenMedError, match=f"{path.name} is a folder"):
        formats.write([sample()], path, name_of(case))
    assert list(tmp_path.iterdir()) == [path]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# A folder without files is no annotation to brat.
@pytest.mark.parametrize("case", [case for case in TARGETS if case != "brat"])
def test_no_documents(tmp_path: Path, case: str) -> None:
    path = tmp_path / TARGETS[case]
    formats.write([], path, name_of(case))
    assert list(formats.read(path, name=name_of(case))) == []


@pytest.mark.parametrize("case", TARGETS)
def test_missing_file(tmp_path: Path, case: str) -> None:
    with pytest.raises(OpenMedError, match=f"{TARGETS[case]}: "):
        list(formats.read(tmp_path / TARGETS[case], name=name_of(case)))


@pytest.mark.parametrize("case", [case for case in TARGETS if "." in TARGETS[case]])
@pytest.mark.parametrize("content", ["zip", "cut", "noise"])
def test_other_content_than_the_name_says(tmp_path: Path, case: str, content: str) -> None:
    path = tmp_path / TARGETS[case]
    if content == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("train.jsonl", '{"text": "a"}\n')
    elif content == "noise":
        path.write_bytes(bytes(range(128, 256)) * 8)
    else:
        formats.write([sample(0), sample(1)], path, name_of(case))
        # In the middle of the last annotation of text formats.
        path.write_bytes(path.read_bytes()[:-4])
        if name_of(case) == "pubtator":
            path.write_bytes(path.read_bytes().rpartition(b"\t")[0].rpartition(b"\t")[0])
    with pytest.raises(OpenMedError, match=path.name):
        list(formats.read(path, name=name_of(case)))


@pytest.mark.parametrize("name", READ_AS_TEXT)
def test_utf_16(tmp_path: Path, name: str) -> None:
    path = tmp_path / TARGETS[name]
    formats.write([sample()], path)
    path.write_text(path.read_text(encoding="utf8"), encoding="utf-16")
    with pytest.raises(OpenMedError, match=f"{path.name}, line 1: UTF-16"):
        list(formats.read(path))


@pytest.mark.parametrize("name", READ_AS_TEXT)
def test_windows_line_ends_and_byte_order_mark(tmp_path: Path, name: str) -> None:
    path = tmp_path / TARGETS[name]
    formats.write([sample(0), sample(1)], path)
    expected = list(formats.read(path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(formats.read(path)) == expected


# JSONL


@st.composite
def raw_documents(draw: st.DrawFn) -> Document:
    """Nested, overlapping and repeated mentions, white space and lone surrogates anywhere."""
    text = draw(st.text(st.characters(), max_size=20))
    edges = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    pairs = draw(st.lists(edges.filter(lambda p: p[0] < p[1]), max_size=4)) if text else []
    labels = st.text(st.characters(), min_size=1, max_size=3)
    entities = [Entity(*pair, draw(labels)) for pair in pairs]
    concepts = {e[:3]: draw(labels) for e in entities[1:]}
    passages = [(0, len(text), draw(labels))] if draw(st.booleans()) else []
    return Document(draw(st.text(max_size=5)), text, entities, concepts=concepts, passages=passages)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@given(st.lists(raw_documents(), max_size=4, unique_by=lambda d: d.id))
def test_jsonl_writes_what_it_reads(scratch: Path, written: list[Document]) -> None:
    path = scratch / "out.jsonl"
    jsonl.write(written, path)
    assert list(jsonl.read(path)) == written


SHAPES: dict[str, dict[str, Any]] = {
    "Prodigy": {
        "text": "lung cancer",
        "_input_hash": 1,
        "tokens": [{"text": "lung", "start": 0, "end": 4, "id": 0}],
        "spans": [
            {"start": 0, "end": 11, "token_start": 0, "token_end": 1, "label": "D", "kb_id": "M1"},
            {"start": 0, "end": 4, "label": "A"},
        ],
        "answer": "accept",
    },
    "doccano": {"id": 5, "text": "lung cancer", "label": [[0, 11, "D"], [0, 4, "A"]]},
    "doccano, labels": {"text": "lung cancer", "labels": [[0, 11, "D"], [0, 4, "A"]]},
    "doccano with relations": {
        "text": "lung cancer",
        "entities": [
            {"id": 1, "label": "D", "start_offset": 0, "end_offset": 11},
            {"id": 2, "label": "A", "start_offset": 0, "end_offset": 4},
        ],
        "relations": [],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_jsonl_of_annotation_tools(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps(SHAPES[shape]), encoding="utf8")
    (found,) = jsonl.read(path)
    assert found.entities == [Entity(0, 11, "D"), Entity(0, 4, "A")]
    assert found.concepts == ({(0, 11, "D"): "M1"} if shape == "Prodigy" else {})
    assert found.id == ("5" if shape == "doccano" else "")


@pytest.mark.parametrize("empty", [None, []])
def test_jsonl_entities_may_be_beside_a_key_with_nothing(tmp_path: Path, empty: object) -> None:
    path = tmp_path / "export.jsonl"
    span = {"start": 0, "end": 4, "label": "A"}
    rows = [
        {"text": "lung", "entities": empty, "spans": [span]},
        {"text": "lung", "entities": empty, "label": [[0, 4, "A"]]},
        {"text": "lung", "entities": [[0, 4, "A"]], "spans": empty},
        {"text": "lung", "entities": empty, "spans": []},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    assert [d.entities for d in jsonl.read(path)] == [[Entity(0, 4, "A")]] * 3 + [[]]


def test_jsonl_leaves_out_what_an_annotator_did_not_accept(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    answers = ["accept", "reject", "ignore", None]
    rows = [{"text": str(a)} | ({"answer": a} if a else {}) for a in answers]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    assert [d.text for d in jsonl.read(path)] == ["accept", "None"]


BAD_ENTITIES = {
    "label of the text": ('"label": "positive"', "entity is 'p'"),
    "labels of the text": ('"label": ["positive"]', "entity is 'positive'"),
    "no end": ('"spans": [{"start": 0, "label": "D"}]', "'end'"),
    "no label": ('"spans": [{"start": 0, "end": 1}]', "'label'"),
    "label null": ('"spans": [{"start": 0, "end": 1, "label": null}]', "0 to 1 is None"),
    "label a number": ('"entities": [[0, 1, 4]]', "0 to 1 is 4"),
    "label empty": ('"entities": [[0, 1, ""]]', "0 to 1 is ''"),
    "outside": ('"spans": [{"start": 0, "end": 9, "label": "D"}]', "0 to 9 lies outside"),
    "two kinds of entities": (
        '"spans": [[0, 1, "D"]], "entities": [], "label": [[1, 2, "D"]]',
        "entities may be in spans or in label",
    ),
    "number of the text": ('"entities": [], "label": 0', "TypeError"),
    "id of too many digits": ('"id": ' + "9" * 5_000, "JSON"),
    "passage at infinity": ('"passages": [[Infinity, 1, "t"]]', "passage inf to 1 lies outside"),
    "passage outside": ('"passages": [[3, 3, ""], [0, 4, "t"]]', "passage 0 to 4 lies outside"),
    "passage backwards": ('"passages": [[2, 1, "t"]]', "passage 2 to 1 lies outside"),
    "passage without a name": ('"passages": [[0, 1]]', "not enough values"),
    "name of passage null": ('"passages": [[0, 1, null]]', "0 to 1 is None"),
    "nested too deep": ('"entities": ' + "[" * 100_000, "JSON"),
}


@pytest.mark.parametrize("case", BAD_ENTITIES)
def test_jsonl_with_other_entities(tmp_path: Path, case: str) -> None:
    member, message = BAD_ENTITIES[case]
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "flu", ' + member + "}", encoding="utf8")
    with pytest.raises(OpenMedError, match=rf"bad\.jsonl, line 2: .*{message}"):
        list(jsonl.read(path))


def test_jsonl_id_that_comes_twice_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ids = ["x", "", "", "y", 7, "7"]
    rows = [json.dumps({"id": i, "text": "a"}) for i in ids]
    path.write_text("\n\n".join([*rows, '{"text": "a", "id": null}']), encoding="utf8")
    with pytest.raises(OpenMedError, match=r"line 11: id '7' is that of line 9, too"):
        list(jsonl.read(path))
    skipped = Skipped()
    assert [d.id for d in jsonl.read(path, on_error=skipped)] == ["x", "", "", "y", "7", ""]
    assert skipped.count == 1


@pytest.mark.parametrize("case", [case for case in TARGETS if case != "brat"])
def test_an_id_is_not_written_twice(tmp_path: Path, case: str) -> None:
    with pytest.raises(OpenMedError, match=r"'doc0' is that of document 1"):
        formats.write([sample(0), sample(1), sample(0)], tmp_path / TARGETS[case], name_of(case))
    assert list(tmp_path.iterdir()) == []


# Skipping


def test_skipped_documents_are_counted_and_the_first_messages_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = '{"text": "flu", "entities": [[0, 9, "D"]]}\n'
    good = '{"text": "flu", "entities": [[0, 3, "D"]]}\n'
    path.write_text(good + bad * 30 + good, encoding="utf8")
    skipped = Skipped()
    assert len(list(formats.read(path, on_error=skipped))) == 2
    assert skipped.count == 30
    assert len(skipped.messages) == 20
    assert skipped.messages[0].startswith(f"{path}, line 2: entity 0 to 9 lies outside")


def test_a_line_that_is_not_utf_8_skips_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [b'{"id": 1, "text": "a"}', b'{"id": 2, "text": "caf\xe9"}', b'{"id": 2, "text": "b"}']
    path.write_bytes(b"\n".join(rows))
    with pytest.raises(OpenMedError, match=r"a\.jsonl, line 2: not UTF-8 .*0xe9"):
        list(formats.read(path))
    skipped = Skipped()
    assert [d.text for d in formats.read(path, on_error=skipped)] == ["a", "b"]
    assert (skipped.count, "line 2: not UTF-8" in skipped.messages[0]) == (1, True)


# Memory


def long_documents(number: int) -> Iterator[Document]:
    words = ["x" * 40 + str(i) for i in range(50)]
    text = " ".join(words)
    edges = [0]
    for word in words:
        edges.append(edges[-1] + len(word) + 1)
    tokens = [(start, next_start - 1) for start, next_start in pairwise(edges)]
    document = Document("", text, [Entity(*tokens[3], "GENE")], tokens, [(0, 50)])
    for i in range(number):
        yield replace(document, id=str(i))


def peak(run: Callable[[], Iterable[object] | None]) -> int:
    """The most bytes that Python and Arrow held at a time."""
    arrow = pyarrow.total_allocated_bytes()
    most = 0
    tracemalloc.start()
    try:
        for _ in run() or ():
            most = max(most, pyarrow.total_allocated_bytes() - arrow)
        return most + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["jsonl", "conll", "rows"])
def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(rows, "BATCH_TOKENS", 2_500)
    path = tmp_path / TARGETS[name]
    writing = {}
    reading = {}
    # The first round also pays for imports and caches.
    for number in (1, 100, 1_000):
        documents = long_documents(number)
        writing[number] = peak(partial(formats.write, documents, path, name))
        reading[number] = peak(partial(formats.read, path, name=name))
    one = next(long_documents(1))
    # Less than what texts, and a pair of offsets for each token, take.
    more = 900 * (len(one.text) + 100 * len(one.tokens))
    assert writing[1_000] - writing[100] < more / 8
    assert reading[1_000] - reading[100] < more / 8
