"""CoNLL files: dialects, errors, and writing."""

import tracemalloc
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_openmed.corpora.bio import SCHEMES, encode
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import conll
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.scores import on_tokens
from spacy_openmed.labelling import outermost

TYPES = {"Disease": "DISEASE", "protein": "GENE"}
CORPORA = (
    "anatem bc2gm bc4chemd bc5cdr-chem bc5cdr-disease bionlp13cg cll jnlpba linnaeus ncbi s800"
)

Row = tuple[str, str]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conll") / "file.conll"


words = st.one_of(
    st.sampled_from(["#", "-", "O", "B-Disease", "doc"]),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6),
)


@st.composite
def sentences(draw: st.DrawFn) -> list[Row]:
    """Tokens with valid BIO2 tags."""
    rows = []
    previous = "O"
    for token in draw(st.lists(words, min_size=1, max_size=6)):
        choices = ["O", "B-Disease", "B-protein"]
        if previous != "O":
            choices.append(f"I-{previous[2:]}")
        previous = draw(st.sampled_from(choices))
        rows.append((token, previous))
    return rows


def conll_text(sentence: Sequence[Row]) -> str:
    return "".join(f"{token}\t{tag}\n" for token, tag in sentence)


def check_sentences(document: Document, expected: list[list[Row]]) -> None:
    assert document.text == " ".join(token for s in expected for token, _ in s)
    assert [document.text[a:b] for a, b in document.tokens] == [t for s in expected for t, _ in s]
    assert [
        [document.text[a:b] for a, b in document.tokens[first:stop]]
        for first, stop in document.sentences
    ] == [[token for token, _ in s] for s in expected]
    tags = encode(on_tokens(document.entities, document.tokens), len(document.tokens))
    back = {user: corpus for corpus, user in TYPES.items()}
    assert [t if t == "O" else t[:2] + back[t[2:]] for t in tags] == [
        tag for s in expected for _, tag in s
    ]


def read_text(path: Path, content: str, **options: object) -> list[Document]:
    path.write_text(content, encoding="utf8")
    return list(conll.read(path, **options))  # type: ignore[arg-type]


# Reading


@given(
    st.lists(st.lists(sentences(), min_size=1, max_size=3), max_size=3),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.integers(0, 2),
)
@settings(max_examples=60)
def test_documents_and_sentences(
    scratch: Path,
    documents: list[list[list[Row]]],
    newline: str,
    mark: bytes,
    blank_lines: int,
) -> None:
    """With one or several blank lines after a sentence, and none at the end of the file."""
    content = "".join(
        f"# doc = doc {i}\n" + ("\n" * (1 + blank_lines)).join(conll_text(s) for s in document)
        for i, document in enumerate(documents)
    )
    scratch.write_bytes(mark + content.rstrip("\n").replace("\n", newline).encode())
    found = list(conll.read(scratch, TYPES, scheme="BIO2"))
    assert [d.id for d in found] == [f"doc {i}" for i in range(len(documents))]
    for document, expected in zip(found, documents, strict=True):
        check_sentences(document, expected)


@given(st.lists(sentences(), max_size=4))
def test_without_document_lines_every_sentence_is_a_document(
    scratch: Path, parts: list[list[Row]]
) -> None:
    found = read_text(scratch, "\n".join(map(conll_text, parts)), types=TYPES)
    assert len(found) == len(parts)
    for document, expected in zip(found, parts, strict=True):
        check_sentences(document, [expected])


def test_adjacent_entities_stay_two(tmp_path: Path) -> None:
    content = "flu\tB-Disease\ngout\tB-Disease\nof\tI-Disease\n"
    (found,) = read_text(tmp_path / "a.conll", content)
    assert found.entities == [Entity(0, 3, "Disease"), Entity(4, 11, "Disease")]


def test_blanks_and_four_columns(tmp_path: Path) -> None:
    """As in CoNLL-2003, with its IOB1 tags."""
    content = (
        "-DOCSTART- -X- -X- O\n\nSevere JJ I-NP O\nflu NN I-NP I-Disease\n\n# NN I-NP O\n\n"
        "-DOCSTART- -X- -X- O\n\ngout NN I-NP I-Disease\nflu NN B-NP B-Disease\n"
    )
    first, second = read_text(tmp_path / "a.conll", content)
    assert first == Document(
        "",
        "Severe flu #",
        [Entity(7, 10, "Disease")],
        tokens=[(0, 6), (7, 10), (11, 12)],
        sentences=[(0, 2), (2, 3)],
    )
    assert second.entities == [Entity(0, 4, "Disease"), Entity(5, 8, "Disease")]


@pytest.mark.parametrize(
    "start", ["-DOCSTART-", "-DOCSTART-\tO", "-DOCSTART-\tX\tX\tX", "# doc = "]
)
def test_document_lines_without_id(start: str, tmp_path: Path) -> None:
    content = f"{start}\n\na\tO\n\nb\tO\n\n{start}\n\n{start}\nc\tO\n"
    found = read_text(tmp_path / "a.conll", content)
    assert [(d.id, d.text) for d in found] == [("", "a b"), ("", ""), ("", "c")]


def test_what_precedes_the_first_document_line_is_a_document(tmp_path: Path) -> None:
    found = read_text(tmp_path / "a.conll", "\na\tO\n\nb\tO\n# doc = 1\nc\tO\n")
    assert [(d.id, d.text) for d in found] == [("", "a b"), ("1", "c")]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_comments_are_no_tokens_but_a_hash_is_one(separator: str, tmp_path: Path) -> None:
    rows = ["# doc = 7", "# made by hand, not for use", "#|NN|O", "#1|CD|B-protein", "# source"]
    content = "\n".join(rows).replace("|", separator)
    (found,) = read_text(tmp_path / "a.conll", content)
    assert (found.id, found.text) == ("7", "# #1")
    assert found.entities == [Entity(2, 4, "protein")]


def test_comments_between_blanks_may_have_as_many_words_as_there_are_columns(
    tmp_path: Path,
) -> None:
    content = "# 3\nSevere O\n# 4\nflu B-X\n# O\n"
    (found,) = read_text(tmp_path / "a.conll", content)
    assert found.text == "Severe flu #"
    with pytest.raises(OpenMedError, match="line 1: expected 2 columns separated by blanks"):
        read_text(tmp_path / "a.conll", "# or O\nflu B-X\ngout B-X\n")


def test_blanks_beside_tabs_belong_to_neither_token_nor_tag(tmp_path: Path) -> None:
    content = "flu \tB-X \nA 1\t I-X\n"
    (found,) = read_text(tmp_path / "a.conll", content)
    assert found.text == "flu A 1"
    assert found.tokens == [(0, 3), (4, 7)]
    assert found.entities == [Entity(0, 7, "X")]


def test_comments_alone_are_no_document(tmp_path: Path) -> None:
    content = "# one\n\n# two\na\tO\n\n# three\n"
    assert [d.text for d in read_text(tmp_path / "a.conll", content)] == ["a"]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_file(content: str, tmp_path: Path) -> None:
    assert read_text(tmp_path / "a.conll", content) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme_is_found_or_given(scheme: str, tmp_path: Path) -> None:
    spans = [(0, 2, "X"), (2, 3, "X"), (4, 7, "Y")]
    content = conll_text(list(zip("abcdefgh", encode(spans, 8, scheme), strict=True)))
    entities = [Entity(0, 3, "X"), Entity(4, 5, "X"), Entity(8, 13, "Y")]
    for given_scheme in (None, scheme, scheme.lower()):
        (found,) = read_text(tmp_path / "a.conll", content, scheme=given_scheme)
        assert found.entities == entities
    for other in set(SCHEMES) - {scheme}:
        with pytest.raises(OpenMedError, match=r"a\.conll, line \d: "):
            read_text(tmp_path / "a.conll", content, scheme=other)


def test_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"'BMEWO'.*BIO2"):
        read_text(tmp_path / "a.conll", "a\tO\n", scheme="BMEWO")


def test_detokenised_text_has_the_same_tokens(tmp_path: Path) -> None:
    protein = "IL\tB-protein\n-\tI-protein\n2\tI-protein\n"
    content = f"# doc = 1\n{protein}(\tO\nhigh\tO\n)\tO\n.\tO\n\nFlu\tO\n"
    path = tmp_path / "a.conll"
    (plain,) = read_text(path, content, types=TYPES)
    (written,) = read_text(path, content, types=TYPES, detokenised=True)
    assert plain.text == "IL - 2 ( high ) . Flu"
    assert written.text == "IL-2 (high). Flu"
    assert written.entities == [Entity(0, 4, "GENE")]
    assert written.sentences == plain.sentences == [(0, 7), (7, 8)]
    assert [written.text[a:b] for a, b in written.tokens] == plain.text.split()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.conll"
    path.write_text("some\tO\nflu\tB-Disease\nor\tO\nother\tO\n.\tO\n\n" * 4_000, encoding="utf8")
    tracemalloc.start()
    count = sum(1 for _ in conll.read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000
    assert peak < path.stat().st_size / 2


# Errors

BAD_LINES = {
    "one column": ("token", "expected 2 columns separated by TABs"),
    "blank instead of TAB": ("token O", "expected 2 columns separated by TABs"),
    "more columns": ("token\tNN\tO", "expected 2 columns"),
    "no token": ("\tO", "first a token"),
    "blank token": (" \tO", "first a token"),
    "no tag": ("token\t", "a tag O, B-X or I-X: 'token"),
    "unknown tag": ("token\tX-Disease", "a tag O, B-X or I-X"),
    "tag of another scheme": ("token\tE-Disease", "a tag O, B-X or I-X"),
    "lower case": ("token\tb-Disease", "a tag O, B-X or I-X"),
    "no type": ("token\tB-", "a tag O, B-X or I-X"),
    "unknown type": ("token\tB-Virus", "'Virus'.*Disease, protein"),
    "I after O": ("token\tI-Disease", "I-Disease follows neither"),
    "hash": ("#token", "expected 2 columns"),
    "not UTF-8": (b"caf\xe9\tO", "UTF-8"),
}
GOOD_END = b"\nc\tO\n\n# doc = 3\nd\tB-Disease\n"


@pytest.mark.parametrize("case", BAD_LINES)
def test_errors_name_file_and_line(case: str, tmp_path: Path) -> None:
    line, message = BAD_LINES[case]
    path = tmp_path / "bad.conll"
    raw = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b"# doc = 1\na\tO\n\n# doc = 2\nb\tO\n" + raw + GOOD_END)
    documents = conll.read(path, TYPES)
    assert next(documents).id == "1"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(documents)
    assert f"{path}, line 6: " in str(caught.value)


@pytest.mark.parametrize("case", BAD_LINES)
def test_document_with_an_error_is_skipped(case: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.conll"
    line = BAD_LINES[case][0]
    raw = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b"# doc = 1\na\tO\n\n# doc = 2\nb\tO\n" + raw + GOOD_END)
    skipped = Skipped()
    assert [d.id for d in conll.read(path, TYPES, skipped)] == ["1", "3"]
    assert skipped.count == 1
    assert f"{path}, line 6: " in skipped.messages[0]


@pytest.mark.parametrize("start", [b"# doc = \xe9", b"-DOCSTART- \xe9"])
def test_document_whose_first_line_is_not_utf_8_is_skipped(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.conll"
    path.write_bytes(b"# doc = 1\na\tO\n\n" + start + b"\nb\tO\n" + GOOD_END)
    skipped = Skipped()
    assert [d.id for d in conll.read(path, TYPES, skipped)] == ["1", "3"]
    assert f"{path}, line 4: not UTF-8" in skipped.messages[0]


def test_without_documents_the_sentence_is_skipped(tmp_path: Path) -> None:
    skipped = Skipped()
    content = "a\tO\n\nb\tO\nc\nd\n\ne\tB-X\nf\tI-X\n\ng\tO\nh\tI-X\n\ni\tB-X\n"
    found = read_text(tmp_path / "a.conll", content, on_error=skipped)
    assert [d.text for d in found] == ["a", "e f", "i"]
    assert skipped.count == 2
    assert ["line 4" in skipped.messages[0], "line 11" in skipped.messages[1]] == [True, True]


def test_entity_that_does_not_end_is_named_where_it_breaks_off(tmp_path: Path) -> None:
    content = "# doc = 1\na\tB-X\nb\tE-X\n\nc\tO\nd\tB-X\n\ne\tS-X\nf\tS-X\n"
    with pytest.raises(OpenMedError, match="line 6: B-X is followed by O, not by I-X or E-X"):
        read_text(tmp_path / "a.conll", content)


@pytest.mark.parametrize("before", ["a\tB-protein\n", "a\tB-Disease\n\n", "# doc = 1\n"])
def test_entity_cannot_go_on_from_another_type_sentence_or_document(
    before: str, tmp_path: Path
) -> None:
    content = f"# doc = 0\nx\tB-Disease\n{before}b\tI-Disease\n"
    with pytest.raises(OpenMedError, match=f"line {3 + before.count(chr(10))}: I-Disease"):
        read_text(tmp_path / "bad.conll", content, types=TYPES)


def test_same_id_twice_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    content = "# doc = 1\na\tO\n# doc = 2\nb\tO\n# doc = 1\nc\tO\n"
    with pytest.raises(OpenMedError, match=r"line 5: id '1' is that of line 1, too"):
        read_text(path, content)
    assert [d.text for d in read_text(path, content, on_error=Skipped())] == ["a", "b"]


def test_what_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="cannot be read"):
        next(conll.read(tmp_path / "none.conll"))
    path = tmp_path / "zip.conll"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.conll", "a\tO\n")
    with pytest.raises(OpenMedError, match=r"zip\.conll, line 1: a zip archive"):
        next(conll.read(path, on_error=Skipped()))


def test_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cut.conll"
    path.write_bytes("# doc = 1\na\tO\n\n# doc = 2\nb\tO\nFièvre\tB-Disease\n".encode()[:-11])
    skipped = Skipped()
    assert [d.id for d in conll.read(path, TYPES, skipped)] == ["1"]
    assert "line 6: expected 2 columns" in skipped.messages[0]


# Writing


@st.composite
def tokenised(draw: st.DrawFn) -> Document:
    """A document as the reader makes them, with or without id."""
    parts = draw(st.lists(sentences(), max_size=3))
    content = "".join(conll_text(s) + "\n" for s in parts)
    name = draw(st.text(st.characters(exclude_characters="\t\r\n", codec="utf8"), max_size=5))
    tokens: list[tuple[int, int]] = []
    tags = [tag for s in parts for _, tag in s]
    position = 0
    edges = [0]
    for s in parts:
        for token, _ in s:
            tokens.append((position, position + len(token)))
            position += len(token) + 1
        edges.append(len(tokens))
    entities: list[Entity] = []
    for span, tag in zip(tokens, tags, strict=True):
        if tag.startswith("B-"):
            entities.append(Entity(*span, tag[2:]))
        elif tag.startswith("I-"):
            entities[-1] = entities[-1]._replace(end=span[1])
    text = " ".join(line.split("\t")[0] for line in content.split("\n") if line)
    return Document(name, text, entities, tokens=tokens, sentences=list(pairwise(edges)))


@given(
    st.lists(tokenised(), max_size=4, unique_by=lambda d: d.id or object()),
    st.sampled_from([*SCHEMES, "IOB2", "bilou"]),
)
def test_written_documents_are_read(scratch: Path, documents: list[Document], scheme: str) -> None:
    conll.write(documents, scratch, scheme)
    assert list(conll.read(scratch, scheme=scheme)) == documents
    assert list(conll.read(scratch)) == documents


def test_written_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.conll"
    document = Document(
        "7", "a flu # b", [Entity(2, 5, "X")], tokens=[(0, 1), (2, 5), (6, 7), (8, 9)]
    )
    other = replace(document, id="", sentences=[(0, 2), (2, 4)])
    conll.write([document, other], path)
    assert path.read_bytes() == (
        b"# doc = 7\na\tO\nflu\tB-X\n#\tO\nb\tO\n\n"
        b"-DOCSTART-\tO\n\na\tO\nflu\tB-X\n\n#\tO\nb\tO\n\n"
    )


mention = st.tuples(st.integers(0, 11), st.integers(1, 12)).filter(lambda p: p[0] < p[1])


@given(st.text("abC1-é́ \n", min_size=12, max_size=12), st.lists(mention, max_size=4))
def test_text_without_tokens_keeps_every_outermost_mention(
    scratch: Path, text: str, mentions: list[tuple[int, int]]
) -> None:
    entities = [
        Entity(a, b, "X") for a, b in mentions if not (text[a].isspace() or text[b - 1].isspace())
    ]
    conll.write([Document("1", text, entities)], scratch)
    (found,) = conll.read(scratch)
    assert "".join(found.text.split()) == "".join(text.split())
    assert ["".join(found.text[e.start : e.end].split()) for e in found.entities] == [
        "".join(text[e.start : e.end].split()) for e in outermost(entities)
    ]


def test_tokens_are_split_at_mentions_and_nested_ones_flattened(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    text = "anti-CYP2D6 antitumor"
    entities = [Entity(5, 8, "X"), Entity(5, 11, "GENE"), Entity(16, 21, "DISEASE")]
    conll.write([Document("", text, entities)], path)
    (found,) = conll.read(path)
    assert found.text == "anti - CYP2D6 anti tumor"
    assert found.entities == [Entity(7, 13, "GENE"), Entity(19, 24, "DISEASE")]


BASE = Document(
    "1", "a flu b", [Entity(2, 5, "X")], tokens=[(0, 1), (2, 5), (6, 7)], sentences=[(0, 3)]
)
UNWRITABLE = {
    "token with a blank": (replace(BASE, tokens=[(0, 5), (6, 7)], entities=[]), "token 'a flu'"),
    "token with a line break": (Document("1", "a\nb", [], tokens=[(0, 3)]), r"token 'a\\nb'"),
    "token without characters": (replace(BASE, tokens=[(0, 1), (1, 1)], entities=[]), "token ''"),
    "token like a document line": (
        Document("1", "-DOCSTART-", [], tokens=[(0, 10)]),
        "token '-DOCSTART-'",
    ),
    "mention in a token": (replace(BASE, entities=[Entity(2, 4, "X")]), r"2 to 4 \('fl'\) begins"),
    "mention and a blank": (
        Document("1", "a flu b", [Entity(1, 5, "X")]),
        "at white space or inside a token. CoNLL cannot hold it; JSONL can",
    ),
    "mention in two sentences": (
        replace(BASE, entities=[Entity(0, 5, "X")], sentences=[(0, 1), (1, 3)]),
        "tokens 1 to 2 goes beyond the sentence, which ends with token 1",
    ),
    "token in no sentence": (replace(BASE, sentences=[(0, 2)]), "leave out tokens.*token 3 of 3"),
    "token in two sentences": (replace(BASE, sentences=[(0, 2), (1, 3)]), "or overlap at token 3"),
    "sentence beyond the tokens": (replace(BASE, sentences=[(0, 4)]), "sentences"),
    "label with a blank": (replace(BASE, entities=[Entity(2, 5, "A B")]), "label 'A B'"),
    "no label": (replace(BASE, entities=[Entity(2, 5, "")]), "label ''"),
    "id with a line break": (replace(BASE, id="1\n2"), "id with a TAB or line break"),
    "surrogate": (Document("1", "\ud800", []), "surrogate"),
    "same id": (replace(BASE, id="0"), "id '0' is that of document 1, too"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written_leaves_the_file_as_it_was(case: str, tmp_path: Path) -> None:
    document, message = UNWRITABLE[case]
    path = tmp_path / "a.conll"
    path.write_text("before", encoding="utf8")
    with pytest.raises(OpenMedError, match=f"(?s)^document 2.*{message}"):
        conll.write([replace(BASE, id="0"), document], path)
    assert path.read_text(encoding="utf8") == "before"
    assert list(tmp_path.iterdir()) == [path]


# The corpora


@pytest.mark.parametrize("dataset", CORPORA.split())
def test_corpora_are_written_and_read(dataset: str, corpora_dir: Path, tmp_path: Path) -> None:
    documents = list(conll.read(corpus_file(corpora_dir, dataset, "dev", ".conll")))
    path = tmp_path / "dev.conll"
    conll.write(documents, path, "BIOES")
    assert list(conll.read(path)) == documents
