"""brat and BioNLP Shared Task folders: what Documents become, and what others' files read as."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora import formats
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import brat, jsonl, pubtator
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

TYPES = {"Disease": "DISEASE", "Gene": "GENE"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brat") / "corpus"


def put(folder: Path, **files: str | bytes) -> None:
    """Files by name; "__" stands for the dot."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


pieces = st.sampled_from(
    ["\r\n", "\r", "\t", "\x85", "\u2028", "\ufeff", "𝛽", "e\u0301", ";", "T1"]
)
texts = st.lists(
    pieces | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=8
).map("".join)
words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="|/"),
    min_size=1,
    max_size=5,
)
concepts = st.sampled_from(["D001", "-1", "MESH:D001", "concept:", "concept:D1", ":", "a:", "::b"])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(texts)
    places = st.integers(0, len(text))
    entities = [
        Entity(min(pair), max(pair), draw(st.sampled_from(["Disease", "Gene"]) | words))
        for pair in draw(st.lists(st.tuples(places, places), max_size=4))
        if pair[0] != pair[1]
    ]
    noted = {
        e[:3]: "|".join(draw(st.lists(concepts | words, min_size=1, max_size=3, unique=True)))
        for e in entities
        if draw(st.booleans())
    }
    identifier = "/".join(
        draw(st.lists(words.filter(lambda w: w.strip(".")), min_size=1, max_size=3))
    )
    return Document(identifier, text, entities, concepts=noted)


@given(st.lists(documents(), max_size=3, unique_by=lambda d: d.id))
def test_round_trip(scratch: Path, written: list[Document]) -> None:
    brat.write(written, scratch)
    assert list(brat.read(scratch)) == sorted(written, key=lambda d: d.id)


def test_layout_of_the_files(tmp_path: Path) -> None:
    entities = [Entity(0, 4, "Disease"), Entity(6, 12, "Disease"), Entity(0, 12, "Disease")]
    noted = {(0, 4, "Disease"): "MESH:D006073|3", (0, 12, "Disease"): "OMIM:1"}
    document = Document("a/1", "Gout\r\nfevers", entities, concepts=noted)
    brat.write([document, Document("a.b", "", [])], tmp_path / "out")
    files = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*.*")}
    assert {name: path.read_bytes().decode() for name, path in files.items()} == {
        "a/1.txt": "Gout\r\nfevers",
        "a/1.ann": "T1\tDisease 0 4\tGout\nN1\tReference T1 MESH:D006073\tGout\n"
        "N2\tReference T1 concept:3\tGout\nT2\tDisease 6 12\tfevers\n"
        "T3\tDisease 0 12\tGout  fevers\nN3\tReference T3 OMIM:1\tGout  fevers\n",
        "a.b.txt": "",
        "a.b.ann": "",
    }


# As others write them

ANN = """T2\tDisease 15 27\tliver injury
N2\tReference T2 MESH:D056486\tliver damage
R1\tcauses Arg1:T1 Arg2:T2
T1\tGene 0 5;6 10\tGamma beta

T3\tDisease 15 20;32 39 \tliver failure
E1\tRegulation:T3 Theme:T1
N1\tReference T1 Gene:1
N4\tReference T1 Gene:2\tanother
N5\tReference E1 GO:1\tof an event
A1\tNegation E1
M1\tSpeculation E1
*\tEquiv T2 T3
#1\tAnnotatorNotes T1\tT9 is not here
"""
TEXT = "Gamma\nbeta in\r\nliver injury and failure."


def expected() -> Document:
    return Document(
        "1",
        TEXT,
        [Entity(15, 27, "Disease"), Entity(0, 10, "Gene"), Entity(15, 39, "Disease")],
        concepts={(15, 27, "Disease"): "MESH:D056486", (0, 10, "Gene"): "Gene:1|Gene:2"},
    )


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["1.ann", "1.txt", ""])
def test_files_as_others_write_them(tmp_path: Path, newline: str, mark: str, name: str) -> None:
    """CRLF and a byte order mark in .ann count nowhere, a CR in .txt does."""
    put(tmp_path, **{"1__txt": TEXT, "1__ann": mark + ANN.replace("\n", newline)})
    assert list(brat.read(tmp_path / name)) == [expected()]


def test_the_covering_text_of_a_discontinuous_mention(tmp_path: Path) -> None:
    """Some programs give it instead of the parts."""
    put(tmp_path, **{"1__txt": TEXT, "1__ann": "T1\tDisease 15 20;32 39\tliver injury and failure"})
    assert next(brat.read(tmp_path)).entities == [Entity(15, 39, "Disease")]


def test_a_byte_order_mark_is_a_character_of_the_text(tmp_path: Path) -> None:
    put(tmp_path, **{"1__txt": "\ufeffGout", "1__ann": "T1\tDisease 1 5\tGout"})
    assert next(brat.read(tmp_path)) == Document("1", "\ufeffGout", [Entity(1, 5, "Disease")])


def test_shared_task_files(tmp_path: Path) -> None:
    """Entities are in .a1; what .a2 has are triggers of events."""
    put(
        tmp_path,
        a__txt="p53 binds",
        a__a1="T1\tGene 0 3\tp53\n",
        a__a2="T2\tBinding 4 9\tbinds\nE1\tBinding:T2 Theme:T1\n",
        b__txt="p53",
        b__a1="T1\tGene 0 3\tother words\n",
        b__ann="T1\tProtein 0 3\tp53\n",
    )
    assert [d.entities for d in brat.read(tmp_path)] == [
        [Entity(0, 3, "Gene")],
        [Entity(0, 3, "Protein")],
    ]


def test_folders_within_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "dir.txt").mkdir()
    put(tmp_path, x__txt="one", annotation__conf="[entities]")
    put(tmp_path / "a", x__y__txt="two", x__y__ann="T1\tGene 0 3\ttwo")
    put(tmp_path / "a" / "b", x__txt="three")
    assert list(brat.read(tmp_path)) == [
        Document("a/b/x", "three", []),
        Document("a/x.y", "two", [Entity(0, 3, "Gene")]),
        Document("x", "one", []),
    ]


# Bad input

BAD_LINES = {
    "other words": ("T1\tDisease 0 4\tgout", "has 'Gout' where the annotation has 'gout'"),
    "a part is wrong": ("T1\tDisease 0 2;3 4\tGo u", "has 'Go t' where"),
    "outside": ("T1\tDisease 0 40\tGout", "0 to 40 lies outside"),
    "a part outside": ("T1\tDisease 0 4;39 40\tGout x", "39 to 40 lies outside"),
    "empty": ("T1\tDisease 4 4\t", "4 to 4 lies outside"),
    "negative": ("T1\tDisease -1 4\tGout", "expected T1"),
    "one offset": ("T1\tDisease 0\tGout", "expected T1"),
    "comma": ("T1\tDisease 0 2,2 4\tGo ut", "expected T1"),
    "no words": ("T1\tDisease 0 4", "expected T1"),
    "blanks for TABs": ("T1 Disease 0 4 Gout", "expected T1"),
    "TABs for blanks": ("T1\tDisease\t0\t4\tGout", "expected T1"),
    "unknown type": ("T1\tVirus 0 4\tGout", "'Virus'.*Disease, Gene"),
    "id comes twice": ("T9\tGene 0 4\tGout", "T9 is there already"),
    "no annotation": ("0 4 Disease", "not a line of brat standoff"),
    "reference of nothing": ("N1\tReference T1 MESH:D1\tGout", "reference of T1, which is not"),
    "reference without id": ("N1\tReference T9", "expected N1"),
    "not UTF-8": (b"T1\tDisease 0 4\t\xff", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_errors_name_file_and_line_and_skip_one_document(case: str, tmp_path: Path) -> None:
    bad, message = BAD_LINES[case]
    raw = bad if isinstance(bad, bytes) else bad.encode()
    ann = b"T9\tGene 0 4\tGout\n%b\nT8\tGene 0 4\tGout\n" % raw
    put(tmp_path, **{f"{n}__txt": "Gout and fever" for n in "123"}, **{"2__ann": ann})
    found = brat.read(tmp_path, TYPES)
    assert next(found).id == "1"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(found)
    assert str(caught.value).startswith(f"{tmp_path / '2.ann'}, line 2: ")
    skipped = Skipped()
    assert [d.id for d in brat.read(tmp_path, TYPES, skipped)] == ["1", "3"]
    assert (skipped.count, skipped.messages) == (1, [str(caught.value)])


BAD_FILES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "no text": ({"2__ann": ""}, r"2\.ann: there is no 2\.txt beside it"),
    "no text of .a1": ({"2__a1": ""}, r"2\.a1: there is no 2\.txt beside it"),
    "text not UTF-8": ({"2__txt": b"a\r\nb\n\xe9"}, r"2\.txt, line 3: not UTF-8"),
    "text a zip": ({"2__txt": b"PK\x03\x04"}, r"2\.txt, line 1: a zip archive"),
    "text UTF-16": ({"2__txt": "a".encode("utf-16")}, r"2\.txt, line 1: UTF-16"),
    "annotations a zip": ({"2__txt": "", "2__ann": b"PK\x03\x04"}, r"2\.ann, line 1: a zip"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_errors_of_whole_files_skip_one_document(case: str, tmp_path: Path) -> None:
    files, message = BAD_FILES[case]
    put(tmp_path, **{"1__txt": "", "3__txt": ""}, **files)
    with pytest.raises(OpenMedError, match=message):
        list(brat.read(tmp_path))
    skipped = Skipped()
    assert [d.id for d in brat.read(tmp_path, on_error=skipped)] == ["1", "3"]
    assert skipped.count == 1


@pytest.mark.parametrize("name", ["a.json", "missing", "missing.ann"])
def test_paths_that_are_not_brat(tmp_path: Path, name: str) -> None:
    put(tmp_path, a__json="{}")
    with pytest.raises(OpenMedError, match=r"neither a folder|cannot be read"):
        list(brat.read(tmp_path / name))


def gout(**changes: object) -> Document:
    document = Document("1", "Gout, fever", [Entity(0, 4, "Disease")])
    return replace(document, **changes)  # type: ignore[arg-type]


UNWRITABLE = {
    "no id": ([gout(id="")], "cannot be a name"),
    "id outside": ([gout(id="../1")], "cannot be a name"),
    "id from the root": ([gout(id="/etc/1")], "cannot be a name"),
    "id a folder": ([gout(id="a/")], "cannot be a name"),
    "id with NUL": ([gout(id="a\0")], "cannot be a name"),
    "id too long": ([gout(id="a" * 300)], r"cannot be written \("),
    "id a lone surrogate": ([gout(id="\ud800")], "lone surrogate"),
    "id twice": ([gout(), gout()], "those of another document"),
    "id in a file": ([gout(), gout(id="1.txt/2")], "another document|cannot be written"),
    "lone surrogate": ([gout(text="Gout\ud800")], "lone surrogate"),
    "blank in label": ([gout(entities=[Entity(0, 4, "a b")])], "white space"),
    "no label": ([gout(entities=[Entity(0, 4, "")])], "nor nothing"),
    "blank in concept": ([gout(concepts={(0, 4, "Disease"): "D 1"})], "white space"),
    "half a concept": ([gout(concepts={(0, 4, "Disease"): "D1|"})], "nor nothing"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_the_format_cannot_hold_is_an_error(case: str, tmp_path: Path) -> None:
    """And leaves the folder that was there."""
    path = tmp_path / "out"
    path.mkdir()
    put(path, old__txt="before")
    bad, message = UNWRITABLE[case]
    with pytest.raises(OpenMedError, match=message):
        brat.write([gout(id="0"), *bad], path)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in path.iterdir()] == ["old.txt"]


def test_a_folder_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    brat.write([gout(id="a/1"), gout(id="2")], path)
    brat.write([gout(id="3")], path)
    assert [d.id for d in brat.read(path)] == ["3"]


@pytest.mark.parametrize("name", ["annotation.conf", "thesis.doc", "sub/notes"])
def test_other_files_are_never_lost(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    other = path / name
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(OpenMedError, match="would be lost"):
        brat.write([gout()], path)
    with pytest.raises(OpenMedError, match="not a folder"):
        brat.write([gout()], other)
    assert other.exists()


@pytest.mark.parametrize("name", ["t.ann", "t.a1", "t.TXT"])
def test_a_folder_is_not_named_like_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(OpenMedError, match=rf"{name}: brat is written to a folder"):
        brat.write([gout()], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_splits_side_by_side_are_not_read_as_one(tmp_path: Path) -> None:
    for folder in ("train", "Devel", "test", "notes"):
        (tmp_path / folder).mkdir()
        put(tmp_path / folder, **{f"{folder}__txt": "words", "test1__txt": "words"})
    with pytest.raises(OpenMedError, match=r"holds several splits \(Devel, test, train\)\. Give"):
        list(formats.read(tmp_path, name="brat"))
    found = formats.read(tmp_path / "train", name="brat")
    assert [d.id for d in found] == ["test1", "train"]


# The corpora


@pytest.mark.parametrize(
    ("dataset", "split", "mentions"),
    [("ncbi", "test", 960), ("bionlp13cg", "dev", 3634), ("linnaeus", "dev", 708)],
)
def test_every_mention_comes_back(
    corpora_dir: Path, dataset: str, split: str, mentions: int, tmp_path: Path
) -> None:
    written = list(jsonl.read(corpus_file(corpora_dir, dataset, split, ".jsonl")))
    brat.write(written, tmp_path / "out")
    assert list(brat.read(tmp_path / "out")) == sorted(written, key=lambda d: d.id)
    assert sum(len(d.entities) for d in written) == mentions


def test_concepts_of_bc5cdr_come_back(corpora_dir: Path, tmp_path: Path) -> None:
    written = list(pubtator.read(corpora_dir / "linking" / "bc5cdr" / "test.pubtator"))
    brat.write(written, tmp_path / "out")
    expected = sorted((replace(d, passages=[]) for d in written), key=lambda d: d.id)
    assert list(brat.read(tmp_path / "out")) == expected
    assert sum(len(d.concepts) for d in written) > 9000
