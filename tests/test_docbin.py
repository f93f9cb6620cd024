"""spaCy's .spacy files: what Documents become in them, and what others' files read as."""

import gc
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import spacy
import srsly
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus

from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import docbin, jsonl
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.labelling import outermost

LABELS = ["DISEASE", "GENE", "CHEMICAL"]
# What tokenizers and spaCy's own rule for blanks can stumble over.
PIECES = [
    "CYP",
    ")-induced",
    "β",
    "don't",
    "a",
    "x.y",
    " ",
    "  ",
    "\n",
    "\t",
    "\u00a0",
    "\u2028",
    "\0",
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docbin")


@pytest.fixture(scope="module")
def nlp() -> spacy.language.Language:
    return spacy.blank("en")


def canonical(document: Document) -> Document:
    """What every writer and reader of text keeps, in a fixed order."""
    return replace(
        document,
        entities=sorted(document.entities),
        tokens=[],
        sentences=[],
        concepts=dict(document.concepts),
        passages=[(start, end, name) for start, end, name in document.passages],
    )


def texts() -> st.SearchStrategy[str]:
    words = st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    return st.lists(words, max_size=12).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Nested and overlapping mentions anywhere, but not from or to white space."""
    text = draw(texts())
    edges = [
        (start, end)
        for start in range(len(text))
        for end in range(start + 1, len(text) + 1)
        if text[start:end].strip() == text[start:end]
    ]
    spans = draw(st.lists(st.sampled_from(edges), max_size=6)) if edges else []
    entities = [Entity(*span, draw(st.sampled_from(LABELS))) for span in spans]
    concepts = {e[:3]: draw(st.sampled_from(["D003920", "9606", "ä|b"])) for e in entities[::2]}
    passages = [(0, len(text), "abstract")] if draw(st.booleans()) else []
    return Document(
        draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
        text,
        entities,
        concepts=concepts,
        passages=passages,
    )


def unique_ids(found: list[Document]) -> list[Document]:
    return [replace(d, id=f"{i}{d.id}" if d.id else "") for i, d in enumerate(found)]


@given(st.lists(documents(), max_size=4).map(unique_ids), st.booleans())
@settings(max_examples=25)
def test_round_trip(scratch: Path, written: list[Document], as_folder: bool) -> None:
    path = scratch / ("shards" if as_folder else "file.spacy")
    docbin.write(written, path)
    found = list(docbin.read(path))
    assert [canonical(d) for d in found] == [canonical(d) for d in written]
    for document in found:
        assert "".join(document.text[a:b] for a, b in document.tokens) == "".join(
            "".join(document.text.split())
        )


@st.composite
def tokenized_documents(draw: st.DrawFn) -> Document:
    """Tokens with nothing, a blank or more between them; sentences; mentions on tokens."""
    words = draw(st.lists(st.sampled_from(["a", "(IL", "-2", ")", "p53", "β"]), min_size=1))
    gaps = [draw(st.sampled_from(["", " ", " ", "  ", "\n", " \n "])) for _ in (*words, "")]
    text = gaps[0]
    tokens = []
    for word, gap in zip(words, gaps[1:], strict=True):
        tokens.append((len(text), len(text) + len(word)))
        text += word + gap
    inner = draw(st.sets(st.integers(1, len(words)), max_size=3)) - {len(words)}
    edges = [0, *sorted(inner), len(words)]
    sentences = list(pairwise(edges)) if draw(st.booleans()) else []
    entities = []
    for first in draw(st.sets(st.integers(0, len(words) - 1), max_size=3)):
        last = draw(st.integers(first, len(words) - 1))
        entities.append(Entity(tokens[first][0], tokens[last][1], draw(st.sampled_from(LABELS))))
    return Document("", text, entities, tokens=tokens, sentences=sentences)


@given(tokenized_documents())
@settings(max_examples=25)
def test_tokens_and_sentences_of_the_corpus_are_kept(scratch: Path, written: Document) -> None:
    docbin.write([written], scratch / "tokens.spacy")
    (found,) = docbin.read(scratch / "tokens.spacy")
    assert canonical(found) == canonical(written)
    assert found.tokens == written.tokens
    # To spaCy a doc of one token has a sentence whether or not anything says so.
    if written.sentences or len(written.tokens) > 1:
        assert found.sentences == written.sentences


def test_ents_are_the_outermost_and_spans_are_all(scratch: Path, nlp: spacy.Language) -> None:
    text = "CYP)-induced small cell lung cancer"
    entities = [
        Entity(0, 3, "GENE"),
        Entity(13, 35, "DISEASE"),
        Entity(24, 28, "ANATOMY"),
    ]
    concepts = {(13, 35, "DISEASE"): "D055752", (24, 28, "ANATOMY"): "UBERON:0002048"}
    docbin.write([Document("7", text, entities, concepts=concepts)], scratch / "n.spacy")
    (doc,) = DocBin().from_disk(scratch / "n.spacy").get_docs(nlp.vocab)
    assert doc.text == text
    assert doc.user_data == {"id": "7"}
    assert [(e.text, e.label_, e.kb_id_) for e in doc.ents] == [
        ("CYP", "GENE", ""),
        ("small cell lung cancer", "DISEASE", "D055752"),
    ]
    assert [(s.text, s.label_, s.kb_id_) for s in doc.spans["openmed"]] == [
        ("CYP", "GENE", ""),
        ("small cell lung cancer", "DISEASE", "D055752"),
        ("lung", "ANATOMY", "UBERON:0002048"),
    ]


def test_a_folder_has_shards_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docbin, "SHARD_TOKENS", 5)
    written = [Document(str(i), f"one two three {i}", []) for i in range(6)]
    docbin.write(written, tmp_path / "train")
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == [
        "00000.spacy",
        "00001.spacy",
        "00002.spacy",
    ]
    (tmp_path / "train" / ".hidden.spacy").write_bytes(b"of the file system")
    assert [d.id for d in docbin.read(tmp_path / "train")] == list("012345")


def test_never_more_than_two_shards_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docbin, "SHARD_TOKENS", 8)

    def in_memory() -> int:
        return sum(type(each) is DocBin for each in gc.get_objects())

    before = in_memory()
    most = []

    def watched() -> Iterator[Document]:
        for i in range(8):
            yield Document(str(i), "one two three four", [])
            most.append(in_memory() - before)

    docbin.write(watched(), tmp_path / "train")
    assert len(list((tmp_path / "train").iterdir())) == 4
    most += [in_memory() - before for _ in docbin.read(tmp_path / "train")]
    assert len(most) == 16
    assert max(most) <= 2


def test_text_longer_than_a_pipeline_takes(tmp_path: Path, nlp: spacy.Language) -> None:
    document = Document("", "gout " * (nlp.max_length // 5 + 1), [Entity(0, 4, "DISEASE")])
    docbin.write([document], tmp_path / "long.spacy")
    (found,) = docbin.read(tmp_path / "long.spacy")
    assert canonical(found) == document


# What spaCy makes of the files


def annotated() -> Iterator[Document]:
    """Sentences of which the second has a mention that ends inside a spaCy token."""
    for i in range(150):
        text = f"Patient {i} had gout. The CYP)-induced loss of p53 in mice was mild."
        entities = [(text.index("gout"), 4, "DISEASE"), (text.index("CYP"), 3, "GENE")]
        entities.append((text.index("p53"), 3, "GENE"))
        yield Document(str(i), text, [Entity(a, a + n, label) for a, n, label in entities])


def test_examples_of_spacy_train_have_all_entities(tmp_path: Path, nlp: spacy.Language) -> None:
    written = list(annotated())
    docbin.write(written, tmp_path / "train.spacy")
    examples = list(Corpus(tmp_path / "train.spacy", gold_preproc=True)(nlp))
    assert len(examples) == 150
    for example, document in zip(examples, written, strict=True):
        assert "-" not in example.get_aligned_ner()
        on_text = [Entity(e.start_char, e.end_char, e.label_) for e in example.reference.ents]
        assert on_text == document.entities
        assert len(example.get_aligned_spans_y2x(example.reference.ents)) == 3


def test_examples_on_spacy_tokens_miss_only_what_these_cannot_express(
    tmp_path: Path, nlp: spacy.Language
) -> None:
    docbin.write(annotated(), tmp_path / "train.spacy")
    for example in Corpus(tmp_path / "train.spacy")(nlp):
        missing = zip(example.predicted, example.get_aligned_ner(), strict=True)
        assert [token.text for token, tag in missing if tag in ("-", None)] == ["CYP)-induced"]


def test_debug_data_finds_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from spacy.cli.debug_data import debug_data
    from spacy.cli.init_config import init_config

    docbin.write(annotated(), tmp_path / "train.spacy")
    docbin.write(annotated(), tmp_path / "dev")
    config = init_config(pipeline=["ner"])
    config["paths"].update(train=str(tmp_path / "train.spacy"), dev=str(tmp_path / "dev"))
    config.to_disk(tmp_path / "config.cfg")
    debug_data(tmp_path / "config.cfg", silent=False, no_format=True)
    report = capsys.readouterr().out
    assert "Corpus is loadable" in report
    assert "No entities consisting of or starting/ending with whitespace" in report
    assert "2 label(s)" in report
    assert "0 missing value(s)" in report


# Files by others


def save(path: Path, *docs: Doc) -> Path:
    DocBin(docs=docs).to_disk(path)
    return path


def test_ents_alone(tmp_path: Path, nlp: spacy.Language) -> None:
    doc = nlp.make_doc(" Gout and  flu.")
    doc.ents = [Span(doc, 1, 2, "DISEASE", kb_id="D006073")]
    (found,) = docbin.read(save(tmp_path / "a.spacy", doc), {"DISEASE": "D"})
    assert found.entities == [Entity(1, 5, "D")]
    assert found.concepts == {(1, 5, "D"): "D006073"}
    assert (found.id, found.text, found.passages) == ("", " Gout and  flu.", [])
    assert [found.text[a:b] for a, b in found.tokens] == ["Gout", "and", "flu", "."]
    assert found.sentences == []


def test_ents_beside_spans_of_ours_are_taken_together(tmp_path: Path, nlp: spacy.Language) -> None:
    doc = nlp.make_doc("lung cancer and flu")
    doc.ents = [Span(doc, 0, 2, "DISEASE"), Span(doc, 3, 4, "DISEASE")]
    doc.spans["openmed"] = [Span(doc, 0, 2, "DISEASE"), Span(doc, 0, 1, "ANATOMY")]
    doc.spans["other"] = [Span(doc, 2, 3, "WORD")]
    (found,) = docbin.read(save(tmp_path / "a.spacy", doc))
    assert sorted(found.entities) == [
        Entity(0, 4, "ANATOMY"),
        Entity(0, 11, "DISEASE"),
        Entity(16, 19, "DISEASE"),
    ]


def test_a_span_categorizer_s_group_counts_where_ents_are_missing(
    tmp_path: Path, nlp: spacy.Language
) -> None:
    missing, none, nothing = (nlp.make_doc("lung cancer") for _ in range(3))
    for doc in (missing, none):
        doc.spans["sc"] = [Span(doc, 0, 2, "DISEASE"), Span(doc, 0, 1, "ANATOMY")]
    none.ents = []
    found = list(docbin.read(save(tmp_path / "a.spacy", missing, none, nothing)))
    assert [sorted(d.entities) for d in found] == [
        [Entity(0, 4, "ANATOMY"), Entity(0, 11, "DISEASE")],
        [],
        [],
    ]


def test_several_groups_and_no_ents_are_for_the_user_to_choose(
    tmp_path: Path, nlp: spacy.Language
) -> None:
    doc = nlp.make_doc("lung cancer")
    doc.spans["sc"] = [Span(doc, 0, 2, "DISEASE")]
    doc.spans["gold"] = []
    path = save(tmp_path / "a.spacy", nlp.make_doc("fine"), doc)
    with pytest.raises(OpenMedError, match=r"a\.spacy, document 2: .*sc, gold.*'openmed'"):
        list(docbin.read(path))
    skipped = Skipped()
    assert [d.text for d in docbin.read(path, on_error=skipped)] == ["fine"]
    assert skipped.count == 1


def test_sentences_of_a_parse(tmp_path: Path, nlp: spacy.Language) -> None:
    words = ["\n", "One", ".", " ", "Two", "words"]
    starts = [True, False, False, True, False, False]
    doc = Doc(nlp.vocab, words=words, spaces=[False] * 6, sent_starts=starts)
    (found,) = docbin.read(save(tmp_path / "a.spacy", doc))
    assert found.sentences == [(0, 2), (2, 4)]
    assert [found.text[a:b] for a, b in found.tokens] == ["One", ".", "Two", "words"]


def test_unknown_type_names_the_document(tmp_path: Path, nlp: spacy.Language) -> None:
    doc = nlp.make_doc("flu")
    doc.ents = [Span(doc, 0, 1, "Virus")]
    path = save(tmp_path / "a.spacy", nlp.make_doc(""), doc)
    with pytest.raises(OpenMedError, match=r"a\.spacy, document 2: unexpected type 'Virus'"):
        list(docbin.read(path, {"Disease": "DISEASE"}))


def test_an_id_that_comes_twice(tmp_path: Path, nlp: spacy.Language) -> None:
    docs = DocBin(store_user_data=True)
    for identifier in ("", "x", "", "x"):
        doc = nlp.make_doc("flu")
        doc.user_data["id"] = identifier
        docs.add(doc)
    path = tmp_path / "a.spacy"
    docs.to_disk(path)
    with pytest.raises(OpenMedError, match="document 4: id 'x' is that of document 2"):
        list(docbin.read(path))


def broken(case: str, good: bytes) -> bytes:
    if case == "strings lost":
        message = srsly.msgpack_loads(zlib.decompress(good))
        return zlib.compress(srsly.msgpack_dumps({**message, "strings": []}))
    return {
        "empty": b"",
        "cut short": good[: len(good) // 2],
        "JSON": json.dumps([{"text": "a"}]).encode(),
        "msgpack of something else": zlib.compress(srsly.msgpack_dumps({"a": 1})),
        "no msgpack": zlib.compress(b"text that was compressed"),
    }[case]


@pytest.mark.parametrize(
    "case",
    ["empty", "cut short", "JSON", "msgpack of something else", "no msgpack", "strings lost"],
)
def test_broken_files(tmp_path: Path, case: str) -> None:
    path = tmp_path / "bad.spacy"
    docbin.write([Document("1", "flu and gout", [Entity(0, 3, "DISEASE")])], path)
    path.write_bytes(broken(case, path.read_bytes()))
    with pytest.raises(OpenMedError, match=r"bad\.spacy.*: "):
        list(docbin.read(path))


def test_splits_side_by_side_are_not_read_as_one(tmp_path: Path) -> None:
    names = ("train.spacy", "dev.spacy", "test.spacy", "tests_of_the_reader.spacy")
    for name in names:
        docbin.write([Document("1", "fine", [])], tmp_path / name)
    splits = r"dev\.spacy, test\.spacy, train\.spacy"
    with pytest.raises(OpenMedError, match=rf"{tmp_path} holds several splits \({splits}\)"):
        list(docbin.read(tmp_path))
    for name in names[:2]:
        (tmp_path / name).unlink()
    assert len(list(docbin.read(tmp_path))) == 2


def test_several_files_of_one_split_are_read(tmp_path: Path) -> None:
    """Even if a file in the folder of a split is named like another split."""
    for name in ("train/a.spacy", "train/test.spacy", "train2.spacy"):
        docbin.write([Document("1", "fine", [])], tmp_path / name)
    assert len(list(docbin.read(tmp_path))) == 3


@pytest.mark.parametrize("passage", [(0, 5, "x"), (-1, 2, "x"), (3, 2, "x"), (0, 4, 1), (0, 4)])
def test_passages_that_are_none_of_the_text(
    tmp_path: Path, nlp: spacy.Language, passage: tuple[object, ...]
) -> None:
    doc = nlp.make_doc("fine")
    doc.user_data["passages"] = [(4, 4, "empty"), passage]
    path = tmp_path / "a.spacy"
    DocBin(store_user_data=True, docs=[doc]).to_disk(path)
    with pytest.raises(OpenMedError, match=r"a\.spacy, document 1: .*(passage|damaged)"):
        list(docbin.read(path))


def test_zip_and_missing_file_and_empty_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.spacy", "w") as file:
        file.writestr("a", "b")
    with pytest.raises(OpenMedError, match=r"zip\.spacy: not a DocBin"):
        list(docbin.read(tmp_path / "zip.spacy"))
    with pytest.raises(OpenMedError, match=r"none\.spacy: cannot be read \(No such file"):
        list(docbin.read(tmp_path / "none.spacy"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OpenMedError, match=r"folder: no \.spacy file"):
        list(docbin.read(tmp_path / "folder"))


# What cannot be written

UNWRITABLE = {
    "blank at the end": (Document("7", "flu ", [Entity(0, 4, "D")]), "0 to 4 begins or ends"),
    "blank only": (Document("7", "a b", [Entity(1, 2, "D")]), "1 to 2 begins or ends"),
    "outside": (Document("7", "flu", [Entity(0, 4, "D")]), "0 to 4 lies outside"),
    "no label": (Document("7", "flu", [Entity(0, 3, "")]), "0 to 3 has no label"),
    "surrogate": (Document("7", "flu\ud800", []), "lone surrogate"),
    "surrogate token": (Document("7", "\udfff", [], tokens=[(0, 1)]), "lone surrogate"),
    "surrogate label": (Document("7", "flu", [Entity(0, 3, "\ud800")]), "lone surrogate"),
    "surrogate passage": (
        Document("7", "flu", [], passages=[(0, 3, "\ud800")]),
        "lone surrogate",
    ),
    "overlap": (Document("7", "abc", [], tokens=[(0, 2), (1, 3)]), "tokens overlap"),
    "disorder": (Document("7", "ab", [], tokens=[(1, 2), (0, 1)]), "tokens overlap"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
@pytest.mark.parametrize("name", ["out.spacy", "out"])
def test_what_cannot_be_written(tmp_path: Path, case: str, name: str) -> None:
    document, message = UNWRITABLE[case]
    with pytest.raises(OpenMedError, match=rf"document 2 \('7'\): .*{message}"):
        docbin.write([Document("1", "fine", []), document], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(OpenMedError, match="is no folder of"):
            docbin.write([], tmp_path / name)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


# The corpora


@pytest.mark.parametrize("dataset", ["ncbi", "s800", "bionlp13cg", "bc2gm"])
def test_every_mention_of_a_corpus_survives(
    corpora_dir: Path, tmp_path: Path, dataset: str
) -> None:
    types = registry.dataset(dataset).types
    written = list(jsonl.read(corpus_file(corpora_dir, dataset, "dev", ".jsonl"), types))
    docbin.write(written, tmp_path / "dev.spacy")
    assert [canonical(d) for d in docbin.read(tmp_path / "dev.spacy")] == [
        canonical(d) for d in written
    ]
    docs = DocBin().from_disk(tmp_path / "dev.spacy").get_docs(spacy.blank("en").vocab)
    for doc, document in zip(docs, written, strict=True):
        entities = [Entity(e.start_char, e.end_char, e.label_) for e in doc.ents]
        assert entities == outermost(document.entities)
