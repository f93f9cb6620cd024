"""PubTator files: what Documents become in them, and what others' files read as."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import jsonl, pubtator
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

TYPES = {"Disease": "DISEASE", "Gene": "GENE"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pubtator") / "file.pubtator"


def lines_of(size: int) -> st.SearchStrategy[str]:
    """Text without line breaks; TABs, bars, astral and combining characters included."""
    pieces = st.sampled_from(
        ["|", "\t", " ", "|a|", "1\t0\t1\ta\tGene\tD1", "𝛽", "e\u0301", "\u2028"]
    )
    letters = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6
    )
    return st.lists(pieces | letters, max_size=size).map("".join)


# What a column can hold.
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="|\t\r\n\ufeff"),
    min_size=1,
    max_size=5,
).filter(lambda name: name not in ("-", "t", "a"))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    title, abstract = draw(lines_of(8)), draw(lines_of(8))
    text = title
    passages = [(0, len(title), "title")]
    if abstract:
        text += f" {abstract}"
        passages.append((len(title) + 1, len(text), "abstract"))
    edges = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    entities = [
        Entity(min(pair), max(pair), draw(st.sampled_from(["Disease", "Gene"]) | names))
        for pair in draw(st.lists(edges, max_size=4))
        if pair[0] != pair[1]
    ]
    concepts = {
        e[:3]: draw(st.sampled_from(["D001", "-1", "D001|D002", "D1+OMIM:1", "D1|D1"]) | names)
        for e in entities
        if draw(st.booleans())
    }
    return Document(draw(names), text, entities, concepts=concepts, passages=passages)


unique_documents = st.lists(documents(), max_size=4, unique_by=lambda d: d.id)


@given(unique_documents)
def test_round_trip(scratch: Path, written: list[Document]) -> None:
    pubtator.write(written, scratch)
    assert list(pubtator.read(scratch)) == written


@given(unique_documents)
def test_without_passages_the_text_is_the_title(scratch: Path, written: list[Document]) -> None:
    pubtator.write([replace(d, passages=[]) for d in written], scratch)
    found = list(pubtator.read(scratch))
    assert found == [replace(d, passages=[(0, len(d.text), "title")]) for d in written]


EXAMPLE = """7|t|Gout after furosemide.
7|a|Gout and fever | a report.
7\t0\t4\tGout\tDisease\tD006073
7\t11\t21\tfurosemide\tChemical\tD005665|-1
7\t23\t37\tGout and fever\tDisease\tD006073|D005334\tGout|fever
7\t32\t37\tfever\tDisease\t-
7\t32\t37\tfever\tDisease
7\tCID\tD005665\tD006073
7\tAssociation\t1234\t5678\tNovel

8|t|No mentions.
8|a|

9|t|
9|a|No title.
9\t1\t9\tNo title\tDisease\t-1

"""


def example_documents() -> list[Document]:
    return [
        Document(
            "7",
            "Gout after furosemide. Gout and fever | a report.",
            [
                Entity(0, 4, "Disease"),
                Entity(11, 21, "Chemical"),
                Entity(23, 37, "Disease"),
                Entity(32, 37, "Disease"),
                Entity(32, 37, "Disease"),
            ],
            concepts={
                (0, 4, "Disease"): "D006073",
                (11, 21, "Chemical"): "D005665|-1",
                (23, 37, "Disease"): "D006073|D005334",
            },
            passages=[(0, 22, "title"), (23, 49, "abstract")],
        ),
        Document("8", "No mentions.", [], passages=[(0, 12, "title")]),
        Document(
            "9",
            " No title.",
            [Entity(1, 9, "Disease")],
            concepts={(1, 9, "Disease"): "-1"},
            passages=[(0, 0, "title"), (1, 10, "abstract")],
        ),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", ["\n\n", "\n \n\n", "\n"])
def test_files_as_others_write_them(
    tmp_path: Path, newline: str, mark: str, separator: str
) -> None:
    """With CRLF and a byte order mark; several blank lines or none between documents."""
    path = tmp_path / "a.pubtator"
    content = mark + EXAMPLE.rstrip("\n").replace("\n\n", separator)
    path.write_bytes(content.replace("\n", newline).encode())
    assert list(pubtator.read(path)) == example_documents()


def test_layout_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    text = "Gout after furosemide."
    concepts = {(0, 4, "Disease"): "D006073"}
    passages = [(0, 4, "title"), (5, 22, "abstract")]
    entities = [Entity(0, 4, "Disease"), Entity(11, 21, "Chemical")]
    pubtator.write(
        [
            Document("1", text, entities, concepts=concepts, passages=passages),
            Document("2", "", []),
        ],
        path,
    )
    assert path.read_bytes().decode() == (
        "1|t|Gout\n1|a|after furosemide.\n1\t0\t4\tGout\tDisease\tD006073\n"
        "1\t11\t21\tfurosemide\tChemical\t-\n\n2|t|\n2|a|\n\n"
    )


def test_further_sections_are_passages(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    content = (
        "1|t|One.\n1|a|Two.\n1|METHODS|\n1|a|Three.\n1|RESULTS|\n1\t11\t16\tThree\tGene\t7\n\n"
    )
    path.write_text(content, encoding="utf8")
    document = next(pubtator.read(path))
    assert document.text == "One. Two.  Three."
    assert document.passages == [
        (0, 4, "title"),
        (5, 9, "abstract"),
        (10, 10, "METHODS"),
        (11, 17, "abstract"),
    ]
    pubtator.write([document], path)
    assert path.read_text(encoding="utf8") == content.replace("1|RESULTS|\n", "")


def test_two_concepts_of_one_mention_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    rows = "".join(f"1\t0\t4\tGout\tDisease\t{concept}\n" for concept in ("D1", "D2", "D1", "-"))
    path.write_text(f"1|t|Gout\n{rows}", encoding="utf8")
    document = next(pubtator.read(path))
    assert document.entities == [Entity(0, 4, "Disease")] * 4
    assert document.concepts == {(0, 4, "Disease"): "D1|D2"}


@pytest.mark.parametrize(
    ("text", "given", "same"),
    [
        ("TNF-α", "TNF-a", True),
        ("SARS\u2010CoV", "SARS CoV", True),
        ("TNF-a", "TNF-α", False),
        ("TNF-α", "TNF-alpha", False),
        ("α-β", "β-γ", False),
        ("Gout", "gout", False),
        ("Gout", " Gou", False),
    ],
)
def test_mentions_may_differ_in_characters_outside_ascii(
    tmp_path: Path, text: str, given: str, same: bool
) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text(f"1|t|{text}\n1\t0\t{len(text)}\t{given}\tGene\t7\n", encoding="utf8")
    skipped = Skipped()
    assert len(list(pubtator.read(path, on_error=skipped))) == same
    for message in skipped.messages:
        assert f"line 2: the text has {text!r} where the annotation has {given!r}" in message


BAD_LINES = {
    "other words": ("2\t0\t4\tgout\tDisease\tD1", "has 'Gout' where the annotation has 'gout'"),
    "outside": ("2\t0\t40\tGout\tDisease\tD1", "0 to 40 lies outside"),
    "empty": ("2\t4\t4\t\tDisease\tD1", "4 to 4 lies outside"),
    "negative": ("2\t-1\t4\tGout\tDisease\tD1", "expected ID, start, end"),
    "too large": (f"2\t0\t{'9' * 5000}\tGout\tDisease\tD1", "expected ID, start, end"),
    "other digits": ("2\t٠\t4\tGout\tDisease\tD1", "expected ID, start, end"),
    "no type": ("2\t0\t4\tGout", "expected ID, start, end"),
    "empty type": ("2\t0\t4\tGout\t\tD1", "expected ID, start, end"),
    "one column": ("2\t", "expected ID, start, end"),
    "no column": ("Gout", "not an annotation of document '2'"),
    "other id": ("3\t0\t4\tGout\tDisease\tD1", "not an annotation of document '2'"),
    "unknown type": ("2\t0\t4\tGout\tVirus\tD1", "'Virus'.*Disease, Gene"),
    "letter in the start": ("2\tl0\t4\tGout\tDisease\t-", "expected ID, start, end"),
    "letter, no concept": ("2\tO\t4\tGout\tDisease", "expected ID, start, end"),
    "second title": ("2\t0\t4\tGout\tGene\n2|t|Gout", "not an annotation.*blank line"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_errors_name_file_and_line_and_skip_one_document(case: str, tmp_path: Path) -> None:
    bad, message = BAD_LINES[case]
    path = tmp_path / "bad.pubtator"
    content = f"1|t|Fine\n\n2|t|Gout\n2|a|\n{bad}\n2\t0\t4\tGout\tDisease\tD1\n\n3|t|Fine, too\n"
    path.write_text(content, encoding="utf8")
    found = pubtator.read(path, TYPES)
    assert next(found).id == "1"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(found)
    assert f"{path}, line {5 + bad.count(chr(10))}: " in str(caught.value)
    skipped = Skipped()
    assert [d.id for d in pubtator.read(path, TYPES, skipped)] == ["1", "3"]
    assert (skipped.count, skipped.messages) == (1, [str(caught.value)])


@pytest.mark.parametrize("bad", [b"2|t|caf\xe9\n2|a|", b"2|t|Gout\n2|a|\xff", b"\xff2|t|Gout\n"])
def test_a_line_that_is_not_utf_8_skips_one_document(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pubtator"
    path.write_bytes(b"1|t|Fine\n\n" + bad + b"\n\n3|t|Fine, too\n")
    number = 3 if b"\n2|a|\xff" not in bad else 4
    with pytest.raises(OpenMedError, match=rf"bad\.pubtator, line {number}: not UTF-8"):
        list(pubtator.read(path))
    skipped = Skipped()
    assert [d.id for d in pubtator.read(path, on_error=skipped)] == ["1", "3"]
    assert skipped.count == 1


def test_annotations_without_a_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.pubtator"
    path.write_text("1|t|Gout\n\n1\t0\t4\tGout\tDisease\tD1\n", encoding="utf8")
    with pytest.raises(OpenMedError, match=r"line 3: expected ID\|t\|title"):
        list(pubtator.read(path))


def test_an_id_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "bad.pubtator"
    path.write_text("1|t|Gout\n\n2|t|Gout\n\n1|t|Fever\n", encoding="utf8")
    skipped = Skipped()
    assert [d.text for d in pubtator.read(path, on_error=skipped)] == ["Gout", "Gout"]
    assert skipped.messages == [f"{path}, line 5: id '1' is that of line 1, too."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "line 1: a zip archive"),
        ("1|t|Gout".encode("utf-16"), "line 1: UTF-16"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.pubtator"
    path.write_bytes(content)
    with pytest.raises(OpenMedError, match=message):
        list(pubtator.read(path, on_error=Skipped()))


def gout(**changes: object) -> Document:
    document = Document("1", "Gout, fever", [Entity(0, 4, "Disease")])
    return replace(document, **changes)  # type: ignore[arg-type]


UNWRITABLE = {
    "line break": ([gout(text="Gout,\nfever")], r"character 5.*BioC, brat or JSONL"),
    "carriage return": ([gout(text="Gout,\rfever")], "character 5"),
    "no id": ([gout(id="")], "an id without"),
    "bar in id": ([gout(id="1|2")], "an id without"),
    "TAB in id": ([gout(id="1\t2")], "an id without"),
    "id begins with byte order mark": ([gout(id="\ufeff1")], "an id without"),
    "id twice": ([gout(), gout()], "document 3: id '1' is that of document 2, too"),
    "TAB in label": ([gout(entities=[Entity(0, 4, "a\tb")])], "TAB and line breaks"),
    "no label": ([gout(entities=[Entity(0, 4, "")])], "nor nothing"),
    "line break in concept": ([gout(concepts={(0, 4, "Disease"): "D\n1"})], "TAB and line breaks"),
    "lone surrogate": ([gout(text="Gout\ud800")], "lone surrogate"),
    "passages apart": (
        [gout(passages=[(0, 4, "title"), (6, 11, "abstract")])],
        "passages that do not follow",
    ),
    "not all is in passages": ([gout(passages=[(0, 4, "title")])], "passages that do not follow"),
    "passage without a name": ([gout(passages=[(0, 11, "")])], "nor nothing"),
    "passage with a section's letter": ([gout(passages=[(0, 11, "t")])], "passage named 't'"),
    "bar in passage": ([gout(passages=[(0, 11, "a|b")])], "passage named"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_the_format_cannot_hold_is_an_error(case: str, tmp_path: Path) -> None:
    """And leaves the file that was there."""
    path = tmp_path / "a.pubtator"
    path.write_text("before", encoding="utf8")
    bad, message = UNWRITABLE[case]
    with pytest.raises(OpenMedError, match=message):
        pubtator.write([gout(id="0"), *bad], path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pubtator"]
    assert path.read_text(encoding="utf8") == "before"


def test_reading_and_writing_stream(tmp_path: Path) -> None:
    """A document is out before the next one is asked for."""
    path = tmp_path / "a.pubtator"
    pubtator.write((gout(id=str(i)) for i in range(3)), path)
    with path.open("ab") as file:
        file.write(b"3|t|\xff\n")
    found = pubtator.read(path)
    assert [next(found).id for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(OpenMedError, match="line 13"):
        next(found)


# The corpora


def linked(folder: Path, corpus: str, split: str) -> Path:
    return folder / "linking" / corpus / f"{split}.pubtator"


def spans(document: Document) -> list[tuple[int, int]]:
    return sorted((e.start, e.end) for e in document.entities)


@pytest.mark.parametrize(
    ("corpus", "datasets"),
    [("ncbi", ["ncbi"]), ("bc5cdr", ["bc5cdr-chem", "bc5cdr-disease"])],
)
def test_pubtator_and_jsonl_of_a_corpus_agree(
    corpora_dir: Path, corpus: str, datasets: Sequence[str]
) -> None:
    found = {d.id: d for d in pubtator.read(linked(corpora_dir, corpus, "dev"))}
    expected: dict[str, Document] = {}
    for dataset in datasets:
        for document in jsonl.read(corpus_file(corpora_dir, dataset, "dev", ".jsonl")):
            other = expected.get(document.id, replace(document, entities=[]))
            expected[document.id] = replace(
                document, entities=[*other.entities, *document.entities]
            )
    assert found.keys() == expected.keys()
    for identifier, document in found.items():
        assert document.text == expected[identifier].text
        assert spans(document) == spans(expected[identifier])


@pytest.mark.parametrize("corpus", ["ncbi", "bc5cdr", "linnaeus", "s800"])
def test_corpora_come_back(corpora_dir: Path, corpus: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    source = linked(corpora_dir, corpus, "test")
    written = list(pubtator.read(source))
    assert sum(len(d.concepts) for d in written) > 700
    pubtator.write(written, path)
    assert list(pubtator.read(path)) == written
    if corpus != "bc5cdr":
        # That one has relations and further columns.
        assert path.read_bytes() == source.read_bytes()


def test_every_mention_of_ncbi_comes_back(corpora_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    written = list(jsonl.read(corpus_file(corpora_dir, "ncbi", "test", ".jsonl")))
    pubtator.write(written, path)
    assert [replace(d, passages=[]) for d in pubtator.read(path)] == written
    assert sum(len(d.entities) for d in written) == 960


@pytest.mark.parametrize("dataset", ["bionlp13cg", "linnaeus", "s800"])
def test_corpora_with_line_breaks_are_refused(
    corpora_dir: Path, dataset: str, tmp_path: Path
) -> None:
    documents = jsonl.read(corpus_file(corpora_dir, dataset, "dev", ".jsonl"))
    with pytest.raises(OpenMedError, match="a line break"):
        pubtator.write(documents, tmp_path / "a.pubtator")


def test_nested_mentions_of_bionlp13cg_come_back(corpora_dir: Path, tmp_path: Path) -> None:
    """With blanks for line breaks, as the error says."""
    path = tmp_path / "a.pubtator"
    documents = jsonl.read(corpus_file(corpora_dir, "bionlp13cg", "dev", ".jsonl"))
    written = [replace(d, text=d.text.replace("\n", " ")) for d in documents]
    pubtator.write(written, path)
    assert [replace(d, passages=[]) for d in pubtator.read(path)] == written
    assert sum(len(d.entities) for d in written) == 3634
