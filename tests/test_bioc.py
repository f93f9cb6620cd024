"""BioC XML and JSON: what Documents become in them, and what others' files read as."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bioc as bioc_library
import pytest
from bioc import biocjson
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import bioc, jsonl, pubtator
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

TYPES = {"Disease": "DISEASE", "Gene": "GENE"}
SUFFIXES = pytest.mark.parametrize("suffix", [".xml", ".json"])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bioc")


# What XML can hold, and what its parsers are known to change: line ends, space at the edges.
letters = st.characters(
    exclude_categories=["Cs", "Cc"],
    include_characters="\t\n\r\x85",
    exclude_characters="\ufffe\uffff",
)
pieces = st.sampled_from([" ", "\n", "\r\n", "<b>", "&amp;", "]]>", "𝛽", "e\u0301", "\u2028"])
texts = st.lists(pieces | st.text(letters, max_size=5), max_size=8).map("".join)
names = st.text(letters, min_size=1, max_size=5).filter(lambda name: name != "-")


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """With passages that leave text out, and entities in, across and outside of them."""
    text = draw(texts)
    places = st.integers(0, len(text))
    edges = sorted(draw(st.lists(places, max_size=6)))
    ranges = zip(edges[::2], edges[1::2], strict=False)
    passages = [(start, end, draw(names)) for start, end in ranges]
    entities = [
        Entity(min(pair), max(pair), draw(st.sampled_from(["Disease", "Gene"]) | names))
        for pair in draw(st.lists(st.tuples(places, places), max_size=4))
        if pair[0] != pair[1]
    ]
    concepts = {
        e[:3]: draw(st.sampled_from(["D001", "-1", "D001|D002"]) | names)
        for e in entities
        if draw(st.booleans())
    }
    identifier = draw(st.text(letters, max_size=5))
    return Document(identifier, text, entities, concepts=concepts, passages=passages)


def canonical(document: Document) -> Document:
    """Entities come back in the order of passages."""
    return replace(document, entities=sorted(document.entities))


@SUFFIXES
@given(written=st.lists(documents(), max_size=3, unique_by=lambda d: d.id))
def test_round_trip(scratch: Path, suffix: str, written: list[Document]) -> None:
    path = scratch / f"a{suffix}"
    bioc.write(written, path)
    assert list(map(canonical, bioc.read(path))) == list(map(canonical, written))


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_json_holds_control_characters(scratch: Path, text: str) -> None:
    path = scratch / "a.json"
    bioc.write([Document("1", text, [])], path)
    assert list(bioc.read(path)) == [Document("1", text, [])]


def test_entities_keep_their_order_within_a_passage(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    entities = [Entity(5, 9, "B"), Entity(2, 6, "X"), Entity(5, 9, "A"), Entity(0, 2, "C")]
    passages = [(0, 4, "title"), (5, 9, "abstract")]
    bioc.write([Document("1", "abcd efgh", entities, passages=passages)], path)
    expected = [Entity(0, 2, "C"), Entity(5, 9, "B"), Entity(5, 9, "A"), Entity(2, 6, "X")]
    assert next(bioc.read(path)).entities == expected


GOUT = Document(
    "1",
    "Gout. After furosemide",
    [Entity(0, 4, "Disease"), Entity(12, 22, "Chemical")],
    concepts={(0, 4, "Disease"): "D006073"},
    passages=[(0, 5, "title"), (6, 22, "abstract")],
)


@SUFFIXES
def test_the_bioc_library_reads_what_we_write(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    bioc.write([GOUT, Document("2", "", [])], path)
    content = path.read_text(encoding="utf8")
    collection = (bioc_library if suffix == ".xml" else biocjson).loads(content)
    bioc_library.validate(collection)
    first, second = collection.documents
    assert [(p.offset, p.text, p.infons) for p in first.passages] == [
        (0, "Gout.", {"type": "title"}),
        (6, "After furosemide", {"type": "abstract"}),
    ]
    (gout,), (furosemide,) = (p.annotations for p in first.passages)
    assert (gout.text, gout.infons) == ("Gout", {"type": "Disease", "identifier": "D006073"})
    assert (furosemide.locations[0].offset, furosemide.locations[0].length) == (12, 10)
    assert (second.id, second.passages[0].offset) == ("2", 0)


# As others write them

XML = """<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE collection SYSTEM 'BioC.dtd'>
<collection><source>ours</source><date/><key/><infon key="type">no label</infon>
  <document><!-- a comment --><id>7</id><infon key="type">no label either</infon>
    <passage><infon key="type">title</infon><offset>0</offset><text>Gout &amp; <!-- two
    -->café</text>
      <annotation id="1"><infon key="type">Disease</infon><infon key="MESH">D006073</infon>
        <location offset="0" length="4"/><text>Gout</text></annotation>
    </passage>
    <passage><infon key="type">abstract</infon><offset>12</offset>
      <sentence><offset>12</offset><text>One.</text>
        <annotation><infon key="type">Gene</infon><infon key="identifier">-</infon>
          <location offset="12" length="3"/><text>One</text></annotation>
      </sentence>
      <sentence><offset>18</offset><text>Liver and kidney failure</text>
        <annotation id="3"><infon key="identifier">D1</infon><infon key="type">Disease</infon>
          <location offset="28" length="14"/><location offset="18" length="5"/>
          <text>kidney failure Liver</text></annotation>
        <relation id="R"><infon key="type">x</infon><node refid="1" role="a"/></relation>
      </sentence>
      <annotation id="MeSH"><infon key="type">Index</infon><text>Liver Failure</text></annotation>
      <annotation id="point"><infon key="type">Cite</infon><location offset="99" length="0"/>
        <text/></annotation>
    </passage>
    <passage><offset>43</offset></passage>
    <annotation id="4"><infon key="type">Disease</infon><location offset="5" length="10"/>
      <text>&amp; café One</text></annotation>
  </document>
  <document><id>8</id></document>
</collection>
"""


def expected_of_xml() -> list[Document]:
    return [
        Document(
            "7",
            "Gout & café One.  Liver and kidney failure ",
            [
                Entity(0, 4, "Disease"),
                Entity(12, 15, "Gene"),
                Entity(18, 42, "Disease"),
                Entity(5, 15, "Disease"),
            ],
            concepts={(0, 4, "Disease"): "D006073", (18, 42, "Disease"): "D1"},
            passages=[(0, 11, "title"), (12, 42, "abstract")],
        ),
        Document("8", "", []),
    ]


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-8-sig", "ISO-8859-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_xml_as_others_write_it(tmp_path: Path, encoding: str, newline: str) -> None:
    """Sentences, several locations, comments; CRLF and a byte order mark."""
    path = tmp_path / "a.xml"
    declared = encoding.removesuffix("-sig")
    content = XML.format(encoding=declared).replace("\n", newline)
    path.write_bytes(content.encode(encoding))
    assert list(bioc.read(path)) == expected_of_xml()


def json_document(identifier: object = "7", **changes: Any) -> dict[str, Any]:
    """As short as some programs write it."""
    mention = {
        "infons": {"type": "Disease", "identifier": "MESH:D006073"},
        "text": "Gout",
        "locations": [{"offset": 0, "length": 4}],
    }
    passage = {"infons": {"type": "title"}, "offset": 0, "text": "Gout", "annotations": [mention]}
    return {"id": identifier, "passages": [passage], **changes}


def expected_of_json(identifier: str = "7") -> Document:
    return Document(
        identifier,
        "Gout",
        [Entity(0, 4, "Disease")],
        concepts={(0, 4, "Disease"): "MESH:D006073"},
        passages=[(0, 4, "title")],
    )


relations = [{"id": "R", "nodes": [{"refid": 1}]}]
ENVELOPES = {
    "collection": {
        "source": "",
        "documents": [json_document("7", relations=relations), json_document(8)],
    },
    "list of collections": [{"documents": [json_document(i)]} for i in ("7", "8")],
    "PubTator 3": {"PubTator3": [{"_id": i, **json_document(i)} for i in ("7", "8")]},
    "list of documents": [json_document(i) for i in ("7", "8")],
}


@pytest.mark.parametrize("case", [*ENVELOPES, "a document a line"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_as_others_write_it(tmp_path: Path, case: str, mark: str, indent: int | None) -> None:
    path = tmp_path / "a.json"
    parts = [ENVELOPES[case]] if case in ENVELOPES else [json_document(i) for i in ("7", "8")]
    content = "\r\n".join(json.dumps(part, indent=indent) for part in parts)
    path.write_bytes((mark + content).encode())
    assert list(bioc.read(path)) == [expected_of_json("7"), expected_of_json("8")]


@pytest.mark.parametrize(
    ("infons", "concept"),
    [
        ({"MESH": "D1"}, "D1"),
        ({"Identifier": "D1", "MESH": "D2"}, "D1"),
        ({"identifier": None, "NCBI Gene": "7157"}, "7157"),
        ({"NCBI Gene identifier": "7157,7158"}, "7157,7158"),
        ({"identifier": 9606}, "9606"),
        ({"identifier": "-1"}, "-1"),
        ({"identifier": "-"}, None),
        ({"updated_at": "1"}, None),
    ],
)
def test_where_corpora_keep_the_concept(
    tmp_path: Path, infons: dict[str, object], concept: str | None
) -> None:
    path = tmp_path / "a.json"
    source = json_document()
    source["passages"][0]["annotations"][0]["infons"] = {"type": "Disease", **infons}
    path.write_text(json.dumps({"documents": [source]}), encoding="utf8")
    assert next(bioc.read(path)).concepts.get((0, 4, "Disease")) == concept


def test_pubtator_and_bioc_have_the_same_text(tmp_path: Path) -> None:
    """The gap between title and abstract is the blank that PubTator has."""
    bioc.write([GOUT], tmp_path / "a.xml")
    pubtator.write(bioc.read(tmp_path / "a.xml"), tmp_path / "a.pubtator")
    assert list(pubtator.read(tmp_path / "a.pubtator")) == [GOUT]


# Bad input


def changed(**changes: object) -> dict[str, Any]:
    """A document with a change in its one annotation."""
    source = json_document("bad")
    source["passages"][0]["annotations"][0] |= changes
    return source


def in_passage(**changes: object) -> dict[str, Any]:
    source = json_document("bad")
    source["passages"][0] |= changes
    return source


def at(*locations: tuple[object, object]) -> dict[str, Any]:
    return changed(locations=[{"offset": a, "length": b} for a, b in locations])


BAD = {
    "outside": (at((0, 40)), "annotation 'A': entity 0 to 40 lies outside"),
    "negative": (at((-1, 4)), "-1 to 3 lies outside"),
    "negative length": (at((4, -4)), "4 to 0 lies outside"),
    "one of two outside": (at((0, 4), (9, 2)), "9 to 11 lies outside"),
    "other words": (changed(text="gout"), "has 'Gout' where the annotation has 'gout'"),
    "offset in the passage": (at((1, 3)), "has 'out' where the annotation has 'Gout'"),
    "no type": (changed(infons={"identifier": "D1"}), "no infon 'type'"),
    "unknown type": (changed(infons={"type": "Virus"}), "'Virus'.*Disease, Gene"),
    "length no number": (at((0, "4.5")), "not a BioC document"),
    "passages overlap": (
        json_document(passages=[{"offset": o, "text": "Gout"} for o in (0, 3)]),
        "at 3, where the text so far has 4 characters",
    ),
    "passage far away": (in_passage(offset=10**12), "at 1000000000000, where"),
    "id comes twice": (json_document("first"), "id 'first' is that of document 1, too"),
}


def as_xml(source: dict[str, Any]) -> str:
    """The document in XML, without what is None."""

    def tag(name: str, value: object) -> str:
        return "" if value is None else f"<{name}>{value}</{name}>"

    def infons(holder: dict[str, Any]) -> str:
        return "".join(f'<infon key="{k}">{v}</infon>' for k, v in holder.get("infons", {}).items())

    def annotation(a: dict[str, Any]) -> str:
        places = [
            f'<location offset="{p["offset"]}" length="{p["length"]}"/>' for p in a["locations"]
        ]
        inner = f"{infons(a)}{''.join(places)}{tag('text', a['text'])}"
        return f'<annotation id="{a["id"]}">{inner}</annotation>'

    def passage(p: dict[str, Any]) -> str:
        inner = "".join(map(annotation, p.get("annotations", [])))
        return tag(
            "passage", f"{infons(p)}{tag('offset', p['offset'])}{tag('text', p['text'])}{inner}"
        )

    return tag("document", tag("id", source["id"]) + "".join(map(passage, source["passages"])))


@pytest.mark.parametrize("case", BAD)
@SUFFIXES
def test_errors_name_the_place_and_skip_one_document(
    case: str, suffix: str, tmp_path: Path
) -> None:
    bad, message = BAD[case]
    path = tmp_path / f"bad{suffix}"
    sources = [json_document("first"), bad, json_document("last")]
    for source in sources:
        for passage in source["passages"]:
            for annotation in passage.get("annotations", []):
                annotation["id"] = "A"
    if suffix == ".xml":
        content = "\n".join(["<collection>", *map(as_xml, sources), "</collection>"])
        place = f"{path}, line 3"
    else:
        content = json.dumps({"documents": sources})
        place = f"{path}, document 2"
    path.write_text(content, encoding="utf8")
    found = bioc.read(path, TYPES)
    assert next(found).id == "first"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(found)
    assert str(caught.value).startswith(place)
    skipped = Skipped()
    assert [d.id for d in bioc.read(path, TYPES, skipped)] == ["first", "last"]
    assert (skipped.count, skipped.messages) == (1, [str(caught.value)])


NO_DOCUMENTS: list[object] = [
    7,
    None,
    [],
    {"id": "1", "text": "Gout"},
    {"passages": 7},
    {"passages": [7]},
    in_passage(offset=None),
    in_passage(offset="0"),
    in_passage(text=7),
    in_passage(infons=[]),
]


@pytest.mark.parametrize("source", NO_DOCUMENTS)
def test_json_that_is_no_document(tmp_path: Path, source: object) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"documents": [json_document(), source]}), encoding="utf8")
    skipped = Skipped()
    assert list(bioc.read(path, on_error=skipped)) == [expected_of_json()]
    assert skipped.messages[0].startswith(f"{path}, document 2: not a BioC document")


GOOD = as_xml({"id": "1", "passages": [{"offset": 0, "text": "Gout"}]})
UNREADABLE = {
    "nothing": (b"", "line 1: neither XML nor JSON"),
    "text": (b"Gout", "line 1: neither XML nor JSON"),
    "zip": (b"PK\x03\x04rest", "line 1: a zip archive"),
    "UTF-16": ("<collection/>".encode("utf-16"), "line 1: UTF-16"),
    "cut XML": (f"<collection>\n{GOOD}\n<document><id>2".encode(), "line 3: not XML"),
    "XML not UTF-8": (f"<collection>\n{GOOD}\n".encode() + b"<document>\xff", "line 3: not XML"),
    "crossing tags": (b"<collection>\n<document></collection></document>", "line 2: not XML"),
    "other XML": (b"<!-- PubMed -->\n<PubmedArticleSet/>", "line 2: <PubmedArticleSet> where"),
    "unknown entity": (
        b"<!DOCTYPE collection SYSTEM 'BioC.dtd'>\n<collection><document><id>&alpha;</id>"
        b"</document></collection>",
        "line 2: not XML .*alpha",
    ),
    "outside entity": (
        b"<!DOCTYPE collection [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>\n<collection>"
        b"<document><id>&x;</id></document></collection>",
        "line 2: not XML",
    ),
    "cut JSON": (json.dumps([json_document()])[:-1].encode(), "after document 1: not JSON"),
    "JSON not UTF-8": (b'{"documents": [{"id": "\xff"}]}', "after document 0: not JSON"),
    "other JSON": (b'{"articles": []}', "no BioC"),
    "no number": (b'{"documents": [{"id": NaN}]}', "after document 0: not JSON"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_files_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    """Not even when documents are skipped."""
    content, message = UNREADABLE[case]
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(OpenMedError, match=message) as caught:
        list(bioc.read(path, on_error=Skipped()))
    assert str(caught.value).startswith(str(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="cannot be read"):
        next(bioc.read(tmp_path / "a.xml"))


UNWRITABLE = {
    "overlapping passages": (replace(GOUT, passages=[(0, 5, "a"), (4, 9, "b")]), "passage 4 to 9"),
    "passages in disorder": (replace(GOUT, passages=[(6, 9, "a"), (0, 5, "b")]), "passage 0 to 5"),
    "passage outside": (replace(GOUT, passages=[(0, 99, "a")]), "passage 0 to 99"),
    "passage without a name": (replace(GOUT, passages=[(0, 5, "")]), "has no name"),
    "no label": (replace(GOUT, entities=[Entity(0, 4, "")]), "no label"),
    "lone surrogate": (replace(GOUT, text="Gout. \udc80"), "cannot"),
    "id twice": (replace(GOUT, id="0"), "document 2: id '0' is that of document 1, too"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
@SUFFIXES
def test_what_the_format_cannot_hold_is_an_error(case: str, suffix: str, tmp_path: Path) -> None:
    """And leaves the file that was there."""
    path = tmp_path / f"a{suffix}"
    path.write_text("before", encoding="utf8")
    bad, message = UNWRITABLE[case]
    with pytest.raises(OpenMedError, match=message):
        bioc.write([replace(GOUT, id="0"), bad], path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text(encoding="utf8") == "before"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Document("1", "a\x0cb", []), r"document '1': character 1, '\\x0c', cannot be in XML"),
        (Document("1", "ab\uffff", []), "character 2"),
        (Document("1", "ab", [Entity(0, 1, "\0")]), "a character cannot be in XML"),
    ],
)
def test_control_characters_are_not_for_xml(tmp_path: Path, bad: Document, message: str) -> None:
    with pytest.raises(OpenMedError, match=message):
        bioc.write([bad], tmp_path / "a.xml")
    bioc.write([bad], tmp_path / "a.json")
    assert list(bioc.read(tmp_path / "a.json")) == [bad]


def test_other_suffix(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"end in \.xml or \.json"):
        bioc.write([], tmp_path / "a.bioc")


@SUFFIXES
def test_documents_are_written_and_read_one_at_a_time(tmp_path: Path, suffix: str) -> None:
    """What is behind a document, more than a buffer of it, is not looked at."""
    path = tmp_path / f"a{suffix}"
    text = "word " * 100_000

    def two() -> Iterator[Document]:
        yield Document("1", "Gout", [])
        yield Document("2", text, [])

    bioc.write(two(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 100_000])
    found = bioc.read(path)
    assert next(found) == Document("1", "Gout", [])
    with pytest.raises(OpenMedError, match=r"not (XML|JSON)"):
        next(found)


# The corpora


@pytest.mark.parametrize(
    ("dataset", "split", "mentions", "suffix"),
    [
        ("ncbi", "test", 960, ".xml"),
        ("ncbi", "test", 960, ".json"),
        ("bionlp13cg", "dev", 3634, ".xml"),
        ("bionlp13cg", "dev", 3634, ".json"),
        ("linnaeus", "dev", 708, ".json"),
    ],
)
def test_every_mention_comes_back(
    corpora_dir: Path, dataset: str, split: str, mentions: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    written = list(jsonl.read(corpus_file(corpora_dir, dataset, split, ".jsonl")))
    bioc.write(written, path)
    assert list(bioc.read(path)) == written
    assert sum(len(d.entities) for d in written) == mentions


@SUFFIXES
def test_pubtator_corpora_come_back(corpora_dir: Path, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    written = list(pubtator.read(corpora_dir / "linking" / "bc5cdr" / "test.pubtator"))
    bioc.write(written, path)
    assert list(bioc.read(path)) == written
    assert sum(len(d.concepts) for d in written) > 9000
