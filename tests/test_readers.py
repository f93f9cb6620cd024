"""Reading corpora: files of both formats, and the corpora themselves where they are."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.decoding import bio_labels, decode
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
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


@given(
    st.lists(raw_documents(), max_size=4, unique_by=lambda d: d.id or id(d)),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
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


# Where files are, and the registry


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
