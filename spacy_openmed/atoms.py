"""The smallest ranges of text that an entity can begin or end at.

An atom is a word (a maximal run of letters and digits, or any other single character that
is not white space) or, where words are too coarse, a grapheme cluster: what a reader takes
for one character (Unicode Annex 29). Words never cut a grapheme either.
"""

import re

import numpy as np
import regex
from numpy.typing import NDArray

from .errors import OpenMedError

EDGES = ("word", "wordpiece")

_ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")
# White space is what str.isspace says; "\s" of regex leaves the separators out.
_WORD = regex.compile(r"(?:(?=[^\W_])\X)+|(?![\s\x1c-\x1f])\X")
_GRAPHEME = regex.compile(r"(?![\s\x1c-\x1f])\X")


def atom_spans(text: str, edges: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Character ranges of a text's atoms.

    text (str): The text.
    edges (str): "word" for words, "wordpiece" for grapheme clusters, which leaves the edges
        to the wordpieces.
    RETURNS (tuple[int32[n], int32[n]]): Starts and ends, in text order, disjoint.
    RAISES (OpenMedError): Unknown value of ``edges``.
    """
    if edges not in EDGES:
        raise OpenMedError(f"edges = {edges!r}: choose {' or '.join(map(repr, EDGES))}.")
    if edges == "wordpiece":
        matches = [match.span() for match in _GRAPHEME.finditer(text)]
    elif text.isascii():
        matches = [match.span() for match in _ASCII_WORD.finditer(text)]
    else:
        matches = [match.span() for match in _WORD.finditer(text)]
    spans = np.array(matches, dtype=np.int32).reshape(-1, 2)
    return spans[:, 0], spans[:, 1]
