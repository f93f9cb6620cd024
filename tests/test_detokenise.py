"""Tokens to text as people write it."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.detokenise import detokenise, on_written_text
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.corpora.token_offsets import token_offsets
from spacy_openmed.entities import Entity

# What people write, and how the tokens are, with blanks between them.
SENTENCES = {
    "Cells (n = 5) died, too.": "Cells ( n = 5 ) died , too .",
    "Is it [old] {or} new? No!": "Is it [ old ] { or } new ? No !",
    "About 5% of IL-2/IL-4; 10^5 at $20.": "About 5 % of IL - 2 / IL - 4 ; 10 ^ 5 at $ 20 .",
    "MDA-MB-231 and anti-CD3/CD28 cells": "MDA - MB - 231 and anti - CD3 / CD28 cells",
    "a drug-induced fever, CD4-2": "a drug -induced fever , CD4 -2",
    "pre- and postnatal, 5- to 7-fold": "pre - and postnatal , 5 - to 7 - fold",
    "between -5 and -2 degrees": "between - 5 and - 2 degrees",
    "It was 1.5 +/- 0.2 in (+/-) mice.": "It was 1 . 5 + / - 0 . 2 in ( + / - ) mice .",
    "1:10, A:T and p <= 0.05": "1 : 10 , A : T and p < = 0 . 05",
    "of 1,500 or 2,000 mice [3, 4]": "of 1 , 500 or 2 , 000 mice [ 3 , 4 ]",
    "2,4,6-trinitrotoluene": "2 , 4 , 6 - trinitrotoluene",
    "mice, i.e. those of the U.S. kind": "mice , i . e . those of the U . S . kind",
    "Crohn's and Hodgkin's": "Crohn ' s and Hodgkin 's",
    "the patients' 5'-end": "the patients ' 5 ' - end",
    "a 'good' and a \"very good\" one": "a ' good ' and a \" very good \" one",
    "a ``good'' one": "a `` good '' one",
    "CD4+ cells, Ca+ and +/+ mice": "CD4 + cells , Ca + and + / + mice",
    "p53(+), Ca(2+) and Galpha(12)": "p53 ( + ) , Ca ( 2 + ) and Galpha ( 12 )",
    "H(2)O, Cu(II) and the gene(s)": "H ( 2 ) O , Cu ( II ) and the gene ( s )",
    "poly(ethylene) and (methyl)phenol": "poly ( ethylene ) and ( methyl ) phenol",
    "thieno[2,3-b]pyridine": "thieno [ 2 , 3 - b ] pyridine",
    "[3H]thymidine, (14)C": "[ 3H ] thymidine , ( 14 ) C",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_examples(text: str) -> None:
    tokens = SENTENCES[text].split()
    written, spans = detokenise(tokens)
    assert written == text
    assert [written[a:b] for a, b in spans] == tokens


@given(
    st.lists(
        st.one_of(st.sampled_from([t for s in SENTENCES.values() for t in s.split()]), st.text()),
        max_size=20,
    )
)
def test_tokens_stay_with_one_blank_at_most_between_them(tokens: list[str]) -> None:
    text, spans = detokenise(tokens)
    assert [text[a:b] for a, b in spans] == tokens
    ends = [(0, 0), *spans, (len(text), len(text))]
    for number, ((_, end), (start, _)) in enumerate(pairwise(ends)):
        assert text[end:start] == "" or (text[end:start] == " " and 0 < number < len(tokens))


@pytest.mark.parametrize("tokens", [["2", ","], ["'", "a", "b"], ["benzo", "["]])
def test_time_does_not_explode_on_long_lists(tokens: list[str]) -> None:
    """As it does where a rule looks at all the rest of a sentence."""
    text, spans = detokenise(tokens * 30_000)
    assert [text[a:b] for a, b in spans] == tokens * 30_000


# Documents


def ranges(text: str) -> list[tuple[int, int]]:
    """Those of the words of a text."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def tokenised() -> Document:
    return Document(
        "d",
        "IL - 2 ( high ) . A flu .",
        [Entity(0, 6, "GENE", 0.5), Entity(20, 23, "DISEASE"), Entity(0, 2, "X")],
        tokens=ranges("IL - 2 ( high ) . A flu ."),
        sentences=[(0, 7), (7, 10)],
        concepts={(0, 6, "GENE"): "3558"},
        passages=[(0, 17, "title"), (18, 25, "abstract")],
    )


def test_document_gets_a_text() -> None:
    document = tokenised()
    assert on_written_text(document) == Document(
        "d",
        "IL-2 (high). A flu.",
        [Entity(0, 4, "GENE", 0.5), Entity(15, 18, "DISEASE"), Entity(0, 2, "X")],
        tokens=token_offsets(tokenised().text.split(), "IL-2 (high). A flu."),
        sentences=[(0, 7), (7, 10)],
        concepts={(0, 4, "GENE"): "3558"},
        passages=[(0, 12, "title"), (13, 19, "abstract")],
    )
    assert document == tokenised()


def test_sentences_are_written_one_by_one() -> None:
    """A quotation mark that closes nothing opens the next."""
    document = Document("", 'a " b " c', [], tokens=ranges('a " b " c'), sentences=[])
    assert on_written_text(document).text == 'a "b" c'
    parted = replace(document, sentences=[(0, 2), (2, 5)])
    assert on_written_text(parted).text == 'a " b " c'


def test_tokens_in_no_sentence_are_written_too() -> None:
    document = Document("", "a . b . c .", [], tokens=ranges("a . b . c ."), sentences=[(2, 4)])
    assert on_written_text(document).text == "a. b. c."


def test_text_of_its_own_stays() -> None:
    raw = Document("", "IL - 2", [Entity(0, 6, "X")])
    assert on_written_text(raw) is raw
    known = Document("", "IL-2 .", [], tokens=[(0, 2), (2, 3), (3, 4), (5, 6)])
    assert on_written_text(known) is known


words = st.one_of(
    st.sampled_from(list("().,-/'\"+=5aB")),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=4),
)


@given(st.lists(st.lists(words, min_size=1, max_size=8), min_size=1, max_size=3), st.data())
def test_mentions_keep_their_characters(parts: list[list[str]], data: st.DataObject) -> None:
    tokens: list[tuple[int, int]] = []
    sentences = []
    for part in parts:
        sentences.append((len(tokens), len(tokens) + len(part)))
        for word in part:
            start = tokens[-1][1] + 1 if tokens else 0
            tokens.append((start, start + len(word)))
    text = " ".join(word for part in parts for word in part)
    places = st.integers(0, len(tokens) - 1)
    ranges = data.draw(st.lists(st.tuples(places, places).map(sorted), max_size=4))
    entities = [Entity(tokens[a][0], tokens[b][1], "X") for a, b in ranges]
    document = Document("", text, entities, tokens=tokens, sentences=sentences)
    written = on_written_text(document)
    assert written.sentences == sentences
    for before, after in zip(entities, written.entities, strict=True):
        surface = written.text[after.start : after.end]
        assert surface.replace(" ", "") == text[before.start : before.end].replace(" ", "")
        assert surface == surface.strip()


# The corpora


@pytest.mark.parametrize("dataset", ["ncbi", "bc5cdr-chem", "bionlp13cg"])
def test_most_blanks_and_mentions_are_right(dataset: str, corpora_dir: Path) -> None:
    """On dev; the rules were chosen on train."""
    raw = {d.id: d for d in jsonl.read(corpus_file(corpora_dir, dataset, "dev", ".jsonl"))}
    places = right = mentions = restored = 0
    for document in conll.read(corpus_file(corpora_dir, dataset, "dev", ".conll")):
        text = raw[document.id].text
        true = token_offsets([document.text[a:b] for a, b in document.tokens], text)
        written = on_written_text(document)
        for (end, start), (true_end, true_start) in zip(
            ((a[1], b[0]) for a, b in pairwise(written.tokens)),
            ((a[1], b[0]) for a, b in pairwise(true)),
            strict=True,
        ):
            places += 1
            right += (end < start) == (true_end < true_start)
        firsts = {start: i for i, (start, _) in enumerate(written.tokens)}
        lasts = {end: i for i, (_, end) in enumerate(written.tokens)}
        for entity in written.entities:
            start, end = true[firsts[entity.start]][0], true[lasts[entity.end]][1]
            mentions += 1
            restored += written.text[entity.start : entity.end] == text[start:end]
    assert right > 0.995 * places
    assert restored > 0.995 * mentions
