"""Reading corpora: files of both formats, and the corpora themselves where they are."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.decoding import bio_labels, decode
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.scores import on_tokens, to_bio
from spacy_openmed.labelling import label_wordpieces, outermost
from spacy_openmed.windows import encode_batch

TYPES = {"Disease": "DISEASE", "protein": "GENE"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers") / "file"


# JSONL


@st.composite
def raw_documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(st.characters(), min_size=1, max_size=30))
    edges = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    entities = [
        Entity(min(pair), max(pair), draw(st.sampled_from(["DISEASE", "GENE"])))
        for pair in draw(st.lists(edges.filter(lambda p: p[0] != p[1]), max_size=4))
    ]
    return Document(draw(st.text(max_size=5)), text, entities)


@given(st.lists(raw_documents(), max_size=4), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_jsonl_round_trip(
    scratch: Path, documents: list[Document], ascii_only: bool, newline: str
) -> None:
    corpus_type = {user: corpus for corpus, user in TYPES.items()}
    lines = []
    for d in documents:
        entities = [[e.start, e.end, corpus_type[e.label], "D001"] for e in d.entities]
        row = {"id": d.id, "text": d.text, "entities": entities}
        text = json.dumps(row, ensure_ascii=ascii_only)
        if not ascii_only and any("\ud800" <= c <= "\udfff" for c in text):
            text = json.dumps(row)
        lines.append(text + newline)
    scratch.write_bytes("".join(lines).encode())
    expected = [replace(d, concepts={e[:3]: "D001" for e in d.entities}) for d in documents]
    assert list(jsonl.read(scratch, TYPES)) == expected


def test_jsonl_with_byte_order_mark_blank_lines_and_no_entities(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "one\\u2028two"}\n\n{"id": 7, "text": ""}'.encode())
    assert list(jsonl.read(path)) == [Document("", "one\u2028two", []), Document("7", "", [])]


BAD_ROWS = {
    "cut short": ('{"text": "a", "entities": [[0', "not an object"),
    "a list": ("[1, 2]", "not an object"),
    "a number": ("3", "not an object"),
    "no text": ('{"id": "1", "entities": []}', "'text'"),
    "text no string": ('{"text": 5}', "not an object"),
    "text null": ('{"text": null}', "not an object"),
    "entities null": ('{"text": "ab", "entities": null}', "not an object"),
    "entity too short": ('{"text": "ab", "entities": [[0, 1]]}', "not an object"),
    "entity an object": ('{"text": "ab", "entities": [{"start": 0}]}', "not an object"),
    "end outside": ('{"text": "ab", "entities": [[0, 3, "Disease"]]}', r"0 to 3.*2 char"),
    "start negative": ('{"text": "ab", "entities": [[-1, 1, "Disease"]]}', "outside"),
    "empty": ('{"text": "ab", "entities": [[1, 1, "Disease"]]}', "outside"),
    "backwards": ('{"text": "ab", "entities": [[2, 1, "Disease"]]}', "outside"),
    "no number": ('{"text": "ab", "entities": [["0", 1, "Disease"]]}', "outside"),
    "a truth value": ('{"text": "ab", "entities": [[false, true, "Disease"]]}', "outside"),
    "unknown type": ('{"text": "ab", "entities": [[0, 1, "Virus"]]}', "'Virus'.*Disease, prot"),
    "not UTF-8": (b'{"text": "\xe9"}', "UTF-8"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_jsonl_errors_name_file_and_line(case: str, tmp_path: Path) -> None:
    row, message = BAD_ROWS[case]
    path = tmp_path / "bad.jsonl"
    good = b'{"text": "fine", "entities": []}\n'
    path.write_bytes(good + (row if isinstance(row, bytes) else row.encode()) + b"\n" + good)
    documents = jsonl.read(path, TYPES)
    assert next(documents).text == "fine"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(documents)
    assert f"{path}, line 2" in str(caught.value)


# CoNLL

tokens = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)


@st.composite
def sentences(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Tokens with valid BIO2 tags."""
    rows = []
    previous = "O"
    for token in draw(st.lists(tokens, min_size=1, max_size=6)):
        choices = ["O", "B-Disease", "B-protein"]
        if previous != "O":
            choices.append(f"I-{previous[2:]}")
        previous = draw(st.sampled_from(choices))
        rows.append((token, previous))
    return rows


def conll_text(sentence: list[tuple[str, str]]) -> str:
    return "".join(f"{token}\t{tag}\n" for token, tag in sentence)


def check_sentences(document: Document, expected: list[list[tuple[str, str]]]) -> None:
    assert document.text == " ".join(token for s in expected for token, _ in s)
    assert [document.text[a:b] for a, b in document.tokens] == [t for s in expected for t, _ in s]
    assert [
        [document.text[a:b] for a, b in document.tokens[first:stop]]
        for first, stop in document.sentences
    ] == [[token for token, _ in s] for s in expected]
    tags = to_bio(on_tokens(document.entities, document.tokens), len(document.tokens))
    back = {user: corpus for corpus, user in TYPES.items()}
    assert [t if t == "O" else t[:2] + back[t[2:]] for t in tags] == [
        tag for s in expected for _, tag in s
    ]


@given(
    st.lists(st.lists(sentences(), min_size=1, max_size=3), max_size=3),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.integers(0, 2),
)
@settings(max_examples=60)
def test_conll_round_trip(
    scratch: Path,
    documents: list[list[list[tuple[str, str]]]],
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
    found = list(conll.read(scratch, TYPES))
    assert [d.id for d in found] == [f"doc {i}" for i in range(len(documents))]
    for document, expected in zip(found, documents, strict=True):
        check_sentences(document, expected)


@given(st.lists(sentences(), max_size=4))
def test_without_document_lines_every_sentence_is_a_document(
    scratch: Path, parts: list[list[tuple[str, str]]]
) -> None:
    scratch.write_text("\n".join(conll_text(s) for s in parts), encoding="utf8")
    found = list(conll.read(scratch, TYPES))
    assert len(found) == len(parts)
    for document, expected in zip(found, parts, strict=True):
        check_sentences(document, [expected])


def test_adjacent_entities_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("flu\tB-Disease\ngout\tB-Disease\nof\tI-Disease\n", encoding="utf8")
    assert next(conll.read(path)).entities == [Entity(0, 3, "Disease"), Entity(4, 11, "Disease")]


BAD_LINES = {
    "one column": ("token", "a TAB and a tag"),
    "blank instead of TAB": ("token O", "a TAB and a tag"),
    "no token": ("\tO", "a TAB and a tag"),
    "no tag": ("token\t", "a TAB and a tag"),
    "unknown tag": ("token\tE-Disease", "a TAB and a tag"),
    "lower case": ("token\tb-Disease", "a TAB and a tag"),
    "no type": ("token\tB-", "a TAB and a tag"),
    "unknown type": ("token\tB-Virus", "'Virus'.*Disease, protein"),
    "I after O": ("token\tI-Disease", "I-Disease follows neither"),
    "not UTF-8": (b"caf\xe9\tO", "UTF-8"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_conll_errors_name_file_and_line(case: str, tmp_path: Path) -> None:
    line, message = BAD_LINES[case]
    path = tmp_path / "bad.conll"
    raw = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b"# doc = 1\na\tO\n\n# doc = 2\nb\tO\n" + raw + b"\nc\tO\n\n# doc = 3\nd\tO\n")
    documents = conll.read(path, TYPES)
    assert next(documents).id == "1"
    with pytest.raises(OpenMedError, match=message) as caught:
        next(documents)
    assert f"{path}, line 6" in str(caught.value)


@pytest.mark.parametrize("before", ["a\tB-protein\n", "a\tB-Disease\n\n", "# doc = 1\n"])
def test_entity_cannot_go_on_from_another_type_sentence_or_document(
    before: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.conll"
    path.write_text(f"# doc = 0\nx\tB-Disease\n{before}b\tI-Disease\n", encoding="utf8")
    with pytest.raises(OpenMedError, match=f"line {3 + before.count(chr(10))}: I-Disease"):
        list(conll.read(path, TYPES))


def test_missing_split_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError) as caught:
        corpus_file(tmp_path, "ncbi", "dev", ".conll")
    for place in ("ner/ncbi/dev.conll", "ncbi/dev.conll", "dev.conll"):
        assert str(tmp_path / place) in str(caught.value)
    (tmp_path / "ncbi").mkdir()
    (tmp_path / "ncbi" / "dev.conll").touch()
    assert corpus_file(tmp_path, "ncbi", "dev", ".conll") == tmp_path / "ncbi" / "dev.conll"


# The corpora


@pytest.mark.parametrize(
    ("split", "documents", "sentence_count", "mentions"),
    [("train", 592, 5424, 5134), ("dev", 100, 923, 787), ("test", 100, 940, 960)],
)
def test_ncbi_counts(
    corpora_dir: Path, split: str, documents: int, sentence_count: int, mentions: int
) -> None:
    types = registry.dataset("ncbi").types
    raw = list(jsonl.read(corpus_file(corpora_dir, "ncbi", split, ".jsonl"), types))
    tagged = list(conll.read(corpus_file(corpora_dir, "ncbi", split, ".conll"), types))
    assert len(raw) == len(tagged) == documents
    assert sum(len(d.entities) for d in raw) == sum(len(d.entities) for d in tagged) == mentions
    assert sum(len(d.sentences) for d in tagged) == sentence_count
    for document in (*raw, *tagged):
        for e in document.entities:
            assert document.text[e.start : e.end] == document.text[e.start : e.end].strip()


def survivors(folder: Path, dataset: str, minilm: Path) -> Iterator[tuple[int, int, int]]:
    """Of each text: gold mentions; how many a perfect model returns on words; on wordpieces."""
    types = registry.dataset(dataset).types
    documents = list(jsonl.read(corpus_file(folder, dataset, "test", ".jsonl"), types))
    texts = [d.text for d in documents]
    gold = [outermost(d.entities) for d in documents]
    names = list(dict.fromkeys(types.values()))
    ids = {label: i for i, label in enumerate(bio_labels(names))}
    encodings = encode_batch(texts, load_tokenizer(minilm))
    perfect = np.eye(len(ids), dtype=np.float32) * 100
    logits = [
        perfect[label_wordpieces(e, entities, ids)]
        for e, entities in zip(encodings, gold, strict=True)
    ]
    on_words = decode(texts, encodings, logits, names, "word")
    on_pieces = decode(texts, encodings, logits, names, "wordpiece")
    for wanted, words, pieces in zip(gold, on_words, on_pieces, strict=True):
        spans = {e[:3] for e in wanted}
        yield len(spans), len(spans & {e[:3] for e in words}), len(spans & {e[:3] for e in pieces})


@pytest.mark.parametrize(
    ("dataset", "lost_at_most"),
    [("ncbi", 0.0), ("bc5cdr-chem", 0.007), ("anatem", 0.007), ("bionlp13cg", 0.007)],
)
def test_gold_mentions_survive_labelling_and_decoding(
    corpora_dir: Path, minilm: Path, dataset: str, lost_at_most: float
) -> None:
    gold, on_words, on_pieces = np.sum(list(survivors(corpora_dir, dataset, minilm)), axis=0)
    assert gold > 900
    assert 1 - on_words / gold <= lost_at_most
    assert on_words <= on_pieces
