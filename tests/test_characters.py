"""Kinds of characters, looked up at once, are those that the expressions find one by one."""

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.characters import APART, UNREADABLE, codes, is_plain, is_space

TEXTS = st.one_of(
    st.text(st.characters(codec=None)),
    st.text("ab c\t.é\x0c\x7fβ‐\u2028⌚\ud800", max_size=30),
    st.lists(st.sampled_from(["a" * 99, "a", "β", ".", " ", "\u2009", "‐"]), max_size=8).map(
        "".join
    ),
)


def test_white_space_is_what_str_says() -> None:
    every = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    assert np.flatnonzero(is_space(every)).tolist() == [
        i for i in range(sys.maxunicode + 1) if chr(i).isspace()
    ]


@given(text=TEXTS)
def test_what_is_plain_holds_nothing_to_mend(text: str) -> None:
    points = codes(text)
    assert "".join(map(chr, points)) == text
    found = UNREADABLE.search(text) or APART.search(text)
    if is_plain(points):
        assert found is None
    elif found is None:
        # Not plain by mistake costs time only: text beyond the first emoji, or a run of words
        # that only characters beyond ASCII divide.
        assert max(points) >= 0x231A or len(text) > 100


def test_usual_text_is_plain() -> None:
    for text in ("", "a", "Levels of TNF-α rose (P < 0.05), e.g. at 37 °C.\n" * 40, "x" * 100):
        assert is_plain(codes(text))
    for text in ("x" * 101, "well 😀", "a\x0cb", "\ud800"):
        assert not is_plain(codes(text))
