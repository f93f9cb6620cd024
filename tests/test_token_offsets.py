"""Tokens found in the original text, and annotations moved there."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import SPLITS, corpus_file
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.corpora.token_offsets import document_on_text, token_offsets
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.labelling import outermost

words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
blanks = st.text(" \n\t\u00a0", max_size=3)


def joined(tokens: list[str]) -> Document:
    """The tokens with blanks between them, as one sentence."""
    spans = []
    position = 0
    for token in tokens:
        spans.append((position, position + len(token)))
        position += len(token) + 1
    return Document("d", " ".join(tokens), [], tokens=spans, sentences=[(0, len(tokens))])


def found(tokens: list[str], text: str) -> list[str]:
    """What the text has for each token."""
    spans = token_offsets(tokens, text)
    ends = [0, *(end for _, end in spans)]
    assert all(
        0 <= before <= a <= b <= len(text) for (a, b), before in zip(spans, ends, strict=False)
    )
    return [text[a:b] for a, b in spans]


@given(st.lists(st.tuples(words, blanks), max_size=10), blanks)
def test_blanks_do_not_count(pairs: list[tuple[str, str]], first: str) -> None:
    tokens = [token for token, _ in pairs]
    text = first + "".join(token + blank for token, blank in pairs)
    spans = token_offsets(tokens, text)
    position = len(first)
    for (token, blank), span in zip(pairs, spans, strict=True):
        assert span == (position, position + len(token))
        position += len(token) + len(blank)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_blanks_inside_tokens_do_not_count_either(tokens: list[str], data: st.DataObject) -> None:
    """Whatever blanks the text has, a token begins and ends with its own characters."""
    text = "".join(c + data.draw(blanks) for token in tokens for c in token)
    assert ["".join(part.split()) for part in found(tokens, text)] == tokens
    assert [part.strip() for part in found(tokens, text)] == found(tokens, text)
    assert found([f" {token}\n" for token in tokens], text) == found(tokens, text)


SPELLINGS = {
    "quotes": (["``", "pure", "''", "line"], '"pure" line', ['"', "pure", '"', "line"]),
    "single quotes": (["`", "pure", "'", "5", "'"], "‘pure’ 5′", ["‘", "pure", "’", "5", "′"]),
    "brackets": (["a", "-LRB-", "b", "-RRB-"], "a (b)", ["a", "(", "b", ")"]),
    "Greek": (["TNFalpha", "and", "Delta", "F"], "TNFα and ΔF", ["TNFα", "and", "Δ", "F"]),
    "lambda": (["lambda", "sigma"], "λ ς", ["λ", "ς"]),
    "dashes": (["5", "-", "7", "--", "no"], "5–7 — no", ["5", "–", "7", "—", "no"]),
    "operators": (["+/-", ">=", "x", "2"], "± ≥ × 2", ["±", "≥", "×", "2"]),
    "accents": (["Behcet", "'", "s"], "Behçet's", ["Behçet", "'", "s"]),
    "decomposed": (["naïve", "B"], "nai\u0308ve B", ["nai\u0308ve", "B"]),
    "ligature": (["finding", "a"], "ﬁnding a", ["ﬁnding", "a"]),
    "full width": (["(", "A", ")"], "（A）", ["（", "A", "）"]),
    "units": (["37", "degrees", "C", "5", "microl"], "37°C 5 µl", ["37", "°", "C", "5", "µl"]),
    "signs": (["Kit", "(R)", "(TM)"], "Kit® ™", ["Kit", "®", "™"]),
    "soft hyphen": (["reception", "a"], "recep\u00adtion a", ["recep\u00adtion", "a"]),
    "in two tokens": ([">", "=", "5"], "≥ 5", ["≥", "", "5"]),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_known_spellings(case: str) -> None:
    tokens, text, expected = SPELLINGS[case]
    assert found(tokens, text) == expected
    padded = ["seen", *tokens, "here"]
    assert found(padded, f"seen\n{text} here") == ["seen", *expected, "here"]


LONG = "the patients were seen in vivo and in vitro for some days before they were treated again"
CHANGES = {
    "full stop more": (LONG.split(), f"{LONG}.", LONG.split()),
    "full stop inside": (LONG.split(), LONG.replace("vitro", "vitro."), LONG.split()),
    "word twice": (LONG.split(), LONG.replace("in vitro", "in in vitro"), LONG.split()),
    "word less": ([*LONG.split(), "yes"], LONG, [*LONG.split(), ""]),
    "first word less": (["Yes", *LONG.split()], LONG, ["", *LONG.split()]),
    "other spelling": (
        LONG.split(),
        LONG.replace("treated", "treatid"),
        LONG.replace("treated", "treatid").split(),
    ),
    "other sign": ([*LONG.split(), ".", "No"], f"{LONG}: No", [*LONG.split(), ":", "No"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_small_changes(case: str) -> None:
    tokens, text, expected = CHANGES[case]
    assert found(tokens, text) == expected


OTHER = "none of this has anything to do with what stands there, which is a text of its own"
WRONG = {
    "another text": (
        LONG.split(),
        OTHER,
        "token 1 is 'the'.*'none of this has any' at character 0",
    ),
    "half of it": (LONG.split(), LONG[:44], "token 10 is 'for'.*goes on with '' at character 44"),
    "twice as long": (LONG.split(), f"{LONG} {LONG}", "token 18 is none, .*'the patients were se'"),
    "empty text": (["a"], "", "token 1 is 'a', .*'' at character 0"),
    "no tokens": ([], "a text", "token 1 is none, .*'a text' at character 0"),
    "short": (["Flu", "."], "Gout.", "token 1 is 'Flu'"),
    "empty token": (["a", "", "b"], "ab", "token 2 is empty"),
    "blank token": (["a", " ", "b"], "a b", "token 2 is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_text_is_refused(case: str) -> None:
    tokens, text, message = WRONG[case]
    with pytest.raises(OpenMedError, match=f"^.{{0,40}}{message}"):
        token_offsets(tokens, text)
    with pytest.raises(OpenMedError, match=r"^doc 7: tok"):
        token_offsets(tokens, text, "doc 7")


def test_nothing_is_in_nothing() -> None:
    assert token_offsets([], " \n") == []


# Documents


def test_document_is_moved() -> None:
    tokens = ["TNFalpha", "is", ">", "=", "5", ".", "Flu", "is", "not", "."]
    document = replace(
        joined(tokens),
        sentences=[(0, 6), (6, 10)],
        entities=[Entity(0, 8, "GENE", 0.5), Entity(20, 23, "DISEASE")],
        concepts={(0, 8, "GENE"): "7124"},
        passages=[(0, 19, "title"), (20, 32, "abstract")],
    )
    before = repr(document)
    text = "TNFα is ≥5.\n\nFlu is not."
    assert document_on_text(document, text) == Document(
        "d",
        text,
        [Entity(0, 4, "GENE", 0.5), Entity(13, 16, "DISEASE")],
        tokens=[(0, 4), (5, 7), (8, 9), (9, 10), (10, 11), (13, 16), (17, 19), (20, 23), (23, 24)],
        sentences=[(0, 5), (5, 9)],
        concepts={(0, 4, "GENE"): "7124"},
        passages=[(0, 11, "title"), (13, 24, "abstract")],
    )
    assert repr(document) == before


@given(st.lists(st.tuples(words, blanks), min_size=1, max_size=8), st.data())
def test_every_mention_is_moved(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    document = joined([token for token, _ in pairs])
    numbers = st.integers(0, len(pairs) - 1)
    ranges = data.draw(st.lists(st.tuples(numbers, numbers).map(sorted), max_size=4))
    entities = [Entity(document.tokens[a][0], document.tokens[b][1], "X") for a, b in ranges]
    text = "".join(token + blank for token, blank in pairs)
    moved = document_on_text(replace(document, entities=entities), text)
    assert [(e.start, e.end) for e in moved.entities] == [
        (moved.tokens[a][0], moved.tokens[b][1]) for a, b in ranges
    ]


def test_sentence_that_the_text_lacks_is_left_out() -> None:
    document = replace(joined([*LONG.split(), "No"]), sentences=[(0, 17), (17, 18)])
    assert document_on_text(document, LONG).sentences == [(0, 17)]


def test_mention_that_the_text_spells_otherwise_is_refused() -> None:
    document = joined(LONG.split())
    start = document.text.index("treated")
    document = replace(document, entities=[Entity(start, start + 7, "X")])
    with pytest.raises(OpenMedError, match=r"^d: X entity 'treated' is 'treatid' in the text"):
        document_on_text(document, LONG.replace("treated", "treatid"))
    with pytest.raises(OpenMedError, match=r"^a\.txt: X entity"):
        document_on_text(document, LONG.replace("treated", "treatid"), "a.txt")


def test_mention_in_known_spelling_is_moved() -> None:
    document = replace(joined(["-LRB-", "beta", "-RRB-", "``", "a"]), entities=[Entity(0, 19, "X")])
    assert document_on_text(document, '( β )"a').entities == [Entity(0, 6, "X")]


@pytest.mark.parametrize("entity", [Entity(0, 2, "X"), Entity(1, 3, "X"), Entity(3, 5, "X")])
def test_mention_must_lie_on_tokens(entity: Entity) -> None:
    document = replace(joined(["abc", "d"]), entities=[entity])
    with pytest.raises(OpenMedError, match="does not begin and end at tokens"):
        document_on_text(document, "abc d")


# The corpora

# Mentions of the published token files that the annotations on raw text lack, flattened by
# ``outermost``, and the other way round. Where a mention begins or ends inside a token the
# token file has the whole token (anatem, bc5cdr-chem, ncbi, s800); that of cll has only the
# first token of half its mentions; that of bionlp13cg the innermost of nested ones; those of
# bc5cdr-disease and linnaeus break mentions at wrong ends of sentences; that of bc2gm swaps the
# annotations of sentences with the same text.
DIFFERENCES = {
    "anatem": [(38, 38), (11, 11), (29, 29)],
    "bc2gm": [(2, 2), (3, 3), (3, 3)],
    "bc4chemd": [(0, 0), (0, 0), (0, 0)],
    "bc5cdr-chem": [(0, 0), (10, 10), (5, 5)],
    "bc5cdr-disease": [(0, 0), (4, 2), (0, 0)],
    "bionlp13cg": [(180, 146), (35, 29), (124, 107)],
    "cll": [(107, 107), (17, 17), (53, 53)],
    "jnlpba": [(0, 0), (0, 0), (0, 0)],
    "linnaeus": [(5, 5), (6, 3), (3, 2)],
    "ncbi": [(2, 2), (0, 0), (0, 0)],
    "s800": [(4, 4), (0, 0), (1, 1)],
}
# Its makers replaced "protein" by "PRGE", in tokens too.
SPOILT = {"jnlpba": ["98282482: protein entity 'E-PRGEs' is 'E-proteins' in the text"]}


@pytest.mark.parametrize("dataset", DIFFERENCES)
def test_published_tokens_lie_in_the_original_texts(dataset: str, corpora_dir: Path) -> None:
    differences = []
    spoilt = []
    for split in SPLITS:
        raw = list(jsonl.read(corpus_file(corpora_dir, dataset, split, ".jsonl")))
        by_id = {document.id: document for document in raw}
        counts: Counter[str] = Counter()
        documents = list(conll.read(corpus_file(corpora_dir, dataset, split, ".conll")))
        assert len(documents) == len(raw)
        for number, document in enumerate(documents):
            # The sentences of bc4chemd have no ids, but the same order.
            original = by_id[document.id] if document.id else raw[number]
            try:
                moved = document_on_text(document, original.text)
            except OpenMedError as error:
                spoilt.append(str(error))
                continue
            tokens = [e[:3] for e in moved.entities]
            flat = [e[:3] for e in outermost(original.entities)]
            counts["tokens"] += len(set(tokens) - set(flat))
            counts["raw"] += len(set(flat) - set(tokens))
            assert len(set(tokens)) == len(tokens) == len(document.entities)
        differences.append((counts["tokens"], counts["raw"]))
    assert differences == DIFFERENCES[dataset]
    expected = SPOILT.get(dataset, [])
    assert [message.split(",")[0] for message in spoilt] == expected


def test_a_text_may_have_what_stands_for_a_bracket_elsewhere() -> None:
    tokens = [(0, 1), (2, 7)]
    document = Document("d", "0 -LRB-", [Entity(0, 7, "X")], tokens, [(0, 2)])
    assert document_on_text(document, "0-LRB-").entities == [Entity(0, 6, "X")]
