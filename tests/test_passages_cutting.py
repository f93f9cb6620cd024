"""Texts to passages: sentences, lengths, tokens."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.passages.cutting import Count
from spacy_openmed.passages.cutting import cut as cut_and_count
from spacy_openmed.passages.sentences import split
from spacy_openmed.passages.tokens import Wordpieces, Words

words = Words()


def cut(text: str, count: Count, longest: int) -> list[str]:
    """The passages, their numbers of tokens checked."""
    found = cut_and_count(text, count, longest)
    assert all(size == count(passage) for passage, size in found)
    return [passage for passage, _ in found]


pieces = st.sampled_from(
    [
        "Cells",
        "grew.",
        "E.",
        "coli",
        "(Fig.",
        "2)",
        "β-catenin",
        "p53,",
        "No!",
        "5.5",
        "et al.",
        "-",
    ]
)
gaps = st.sampled_from([" ", "  ", "\n", "\n\n", " \n \n", "\n- ", "\n1. ", "\t", "\u2003"])
long_texts = st.lists(st.tuples(pieces, gaps), max_size=120).map(
    lambda parts: "".join(piece + gap for piece, gap in parts)
)


# "|" is where a sentence ends.
SENTENCES = {
    "full stops": "It grew.| We saw it. ",
    "quotation marks": 'He said "no."| Then it\nended!| (It did.)| 5 mice',
    "abbreviations": "We saw E. coli (Fig. 2) and Smith et al. Then 5 mg i.v. 2 x by Dr. Who in it",
    "years": "Seen in 2001.| Again in 2002.",
    "wrapped lines": "wrapped\nline. and so on",
    "blank lines": "PLAN|\n\nrest|\n \nfluids",
    "lists": "Criteria:|\n* age > 18|\n  - adult|\n2) fit\n-5 mmHg",
    "other letters": "Öl ist da.| Ärzte sind da.| Αλφα.",
    "blank": " \n\n ",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sentences(case: str) -> None:
    expected = [" ".join(part.split()) for part in SENTENCES[case].split("|")]
    assert split(SENTENCES[case].replace("|", "")) == [part for part in expected if part]


@given(long_texts | st.text())
def test_sentences_have_every_word_in_order(text: str) -> None:
    found = split(text)
    assert " ".join(found).split() == text.split()
    assert all(s == " ".join(s.split()) != "" for s in found)


@given(long_texts | st.text(), st.integers(1, 60))
def test_cutting_loses_no_word_and_keeps_to_the_limit(text: str, longest: int) -> None:
    found = cut(text, words, longest)
    assert " ".join(found).split() == text.split()
    assert all(1 <= words(passage) <= longest for passage in found)
    assert all(passage == " ".join(passage.split()) for passage in found)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(60, 120))
def test_passages_of_a_long_text_are_about_equally_long(lengths: list[int], longest: int) -> None:
    """None but the last is shorter than half of what fits; the last by a sentence at most."""
    text = " ".join("Word " + "word " * (n - 1) + "end." for n in lengths)
    found = [words(passage) for passage in cut(text, words, longest)]
    if len(found) > 1:
        assert min(found) >= longest / 2 - 31
        assert max(found) - min(found) <= 3 * 31


def test_a_little_too_long_a_text_is_halved() -> None:
    sentence = "One two three four five six seven eight nine ten."
    assert [words(p) for p in cut(" ".join([sentence] * 30), words, 256)] == [150, 150]


def test_short_text_is_not_cut() -> None:
    assert cut("It grew. It\nshrank. ", words, 4) == ["It grew. It shrank."]


def test_long_sentence_is_cut_between_words() -> None:
    text = "a " * 25 + "end. Short one."
    found = cut(text, words, 10)
    assert " ".join(found) == text
    assert sorted(map(words, found)) == [9, 9, 10]


def test_a_word_that_is_too_long_stays_whole() -> None:
    def letters(text: str) -> int:
        return len(text.replace(" ", ""))

    assert cut("ab cdefghij kl", letters, 4) == ["ab", "cdefghij", "kl"]


def test_tokens_that_count_for_nothing() -> None:
    def capitals(text: str) -> int:
        return sum(c.isupper() for c in text)

    found = cut("A. B. C. d e f g h", capitals, 2)
    assert " ".join(found) == "A. B. C. d e f g h"
    assert max(map(capitals, found)) <= 2


# Wordpieces


@pytest.fixture(scope="module")
def wordpieces(tiny_backbone: Path) -> Wordpieces:
    return Wordpieces(str(tiny_backbone))


def test_wordpieces_are_those_of_the_backbone(wordpieces: Wordpieces) -> None:
    assert wordpieces.special == 2
    assert wordpieces("") == 0
    assert wordpieces("anti p53") == 3  # anti p ##53
    assert wordpieces.describe()["backbone"]["sha256"]
    assert words("anti p53") == 2
    assert words.special == 0


@given(long_texts, st.integers(12, 40))
def test_passages_of_wordpieces_keep_to_the_limit(
    wordpieces: Wordpieces, text: str, longest: int
) -> None:
    found = cut(text, wordpieces, longest)
    assert " ".join(found).split() == text.split()
    assert all(wordpieces(passage) <= longest for passage in found)
