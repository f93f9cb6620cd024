"""The same text in the forms of clinical notes: capitals, headings, lists, typos.

A disturbance says which characters of a text become which others, and ``apply`` moves the
annotations along, so that every mention of the document is a mention of the disturbed one.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

from ..corpora.documents import Document


class Edit(NamedTuple):
    """A replacement of some characters.

    start, end (int): Offsets in the text before; equal for an insertion.
    text (str): What stands there after.
    """

    start: int
    end: int
    text: str


def apply(document: Document, edits: Iterable[Edit]) -> Document:
    """Edit a document.

    A mention keeps its words: what is inserted at its start or its end lies outside of it. So
    the text of each mention after is its text before with the edits within it.

    document (Document): Its entities may be nested.
    edits (Iterable[Edit]): In any order. Disjoint, and at most one insertion at a place, which
        comes before a replacement that starts there.
    RETURNS (Document): With the same id, and its entities in the same order. Tokens, sentences,
        concepts and passages are those of the text before, and left out.
    RAISES (ValueError): Edits overlap or lie outside of the text; one goes over an edge of a
        mention; or nothing of a mention would be left.
    """
    ordered = sorted(edits)
    _check(ordered, len(document.text))
    starts = [edit.start for edit in ordered]
    ends = [edit.end for edit in ordered]
    grown = [len(edit.text) - (edit.end - edit.start) for edit in ordered]
    # What the first n edits add to an offset that comes after all of them.
    shifts = list(accumulate(grown, initial=0))

    def moved(start: int, end: int) -> tuple[int, int]:
        for offset in (start, end):
            before = bisect_left(starts, offset) - 1
            if before >= 0 and ends[before] > offset:
                raise ValueError(f"{ordered[before]} goes over an edge of {start} to {end}")
        # The start moves behind what is inserted at it, the end stays before that.
        place = start + shifts[bisect_right(ends, start)], end + shifts[bisect_left(starts, end)]
        if place[0] >= place[1]:
            raise ValueError(f"nothing is left of {start} to {end}")
        return place

    entities = []
    for entity in document.entities:
        start, end = moved(entity.start, entity.end)
        entities.append(entity._replace(start=start, end=end))
    return Document(document.id, _edited(document.text, ordered), entities)


def _check(edits: Sequence[Edit], length: int) -> None:
    for edit in edits:
        if not 0 <= edit.start <= edit.end <= length:
            raise ValueError(f"{edit} lies outside of a text of {length} characters")
    for first, second in pairwise(edits):
        if first.end > second.start or first[:2] == second[:2]:
            raise ValueError(f"{first} and {second} overlap")


def _edited(text: str, edits: Sequence[Edit]) -> str:
    parts = []
    position = 0
    for edit in edits:
        parts += [text[position : edit.start], edit.text]
        position = edit.end
    return "".join([*parts, text[position:]])


@dataclass(frozen=True)
class Disturbance:
    """A way in which clinical text differs from that of abstracts.

    name (str): For files and tables.
    about (str): A sentence on what it does.
    version (int): Figures of another version are not comparable.
    edits (Callable): Takes a document and a source of chance, gives what is to be changed.
    """

    name: str
    about: str
    version: int
    edits: Callable[[Document, Random], list[Edit]]

    def __call__(self, document: Document, rng: Random) -> Document:
        """Disturb a document.

        rng (random.Random): The same gives the same.
        RETURNS (Document): See ``apply``.
        """
        return apply(document, self.edits(document, rng))


# --- letter case ------------------------------------------------------------------------------


def _capitals(document: Document, rng: Random) -> list[Edit]:
    return _each_character(document.text, str.upper)


def _lower_case(document: Document, rng: Random) -> list[Edit]:
    return _each_character(document.text, str.lower)


def _each_character(text: str, change: Callable[[str], str]) -> list[Edit]:
    """Character by character, since some become several ("ß", "İ")."""
    return [Edit(i, i + 1, change(c)) for i, c in enumerate(text) if change(c) != c]


# --- sentences --------------------------------------------------------------------------------

_BLANKS = re.compile(r"(?<=\S)\s+(?=\S)")
_HEADING_SHARE = 1 / 3
# None names anything that a corpus annotates: no disease, no species (such as "patient").
_HEADINGS = (
    "ASSESSMENT AND PLAN",
    "CHIEF COMPLAINT",
    "FAMILY HISTORY",
    "FOLLOW-UP",
    "HISTORY",
    "HOSPITAL COURSE",
    "IMPRESSION",
    "OBJECTIVE",
    "PERTINENT RESULTS",
    "PHYSICAL EXAMINATION",
    "REVIEW OF SYSTEMS",
    "SUBJECTIVE",
)


def _headings(document: Document, rng: Random) -> list[Edit]:
    edits = [Edit(0, 0, f"{rng.choice(_HEADINGS)}:\n")]
    for start, end in _between_sentences(document):
        if rng.random() < _HEADING_SHARE:
            edits.append(Edit(start, end, f"\n\n{rng.choice(_HEADINGS)}:\n"))
    return edits


def _lists(document: Document, rng: Random) -> list[Edit]:
    numbered = rng.random() < 0.5
    gaps = _between_sentences(document)
    marks = [f"{number}. " if numbered else "- " for number in range(1, len(gaps) + 2)]
    first, *others = marks
    return [
        Edit(0, 0, first),
        *(Edit(*gap, f"\n{mark}") for gap, mark in zip(gaps, others, strict=True)),
    ]


def _between_sentences(document: Document) -> list[tuple[int, int]]:
    """White space at likely ends of sentences, outside of mentions.

    That is a line end, or what follows ".", "!" or "?" before a capital, a digit or an opening
    mark. The rule takes an abbreviation for an end now and then; the item that begins there is
    as good a disturbance as any.
    """
    text = document.text

    def ends(start: int, end: int) -> bool:
        after = text[end]
        begins = after.isupper() or after.isdigit() or after in "\"'“‘(["
        return "\n" in text[start:end] or (text[start - 1] in ".!?" and begins)

    return [gap for gap in _gaps(document) if ends(*gap)]


def _gaps(document: Document) -> list[tuple[int, int]]:
    """White space between words, outside of mentions."""
    inside = bytearray(len(document.text))
    for entity in document.entities:
        inside[entity.start : entity.end] = b"\1" * (entity.end - entity.start)
    spans = (found.span() for found in _BLANKS.finditer(document.text))
    return [(start, end) for start, end in spans if not any(inside[start:end])]


# --- placeholders -----------------------------------------------------------------------------

_PLACEHOLDER_SHARE = 1 / 20


def _placeholders(document: Document, rng: Random) -> list[Edit]:
    return [
        Edit(end, end, f"{_placeholder(rng)} ")
        for _, end in _gaps(document)
        if rng.random() < _PLACEHOLDER_SHARE
    ]


def _placeholder(rng: Random) -> str:
    number = rng.randint(1, 9999)
    return rng.choice(
        (
            f"[**Name (NI) {number}**]",
            f"[**Last Name (un) {number}**]",
            f"[**First Name4 (NamePattern1) {number}**]",
            f"[**Hospital1 {number}**]",
            f"[**Location (un) {number}**]",
            f"[**Telephone/Fax (1) {number}**]",
            f"[**{rng.randint(2100, 2199)}-{rng.randint(1, 12)}-{rng.randint(1, 28)}**]",
        )
    )


# --- line breaks ------------------------------------------------------------------------------

_WIDTHS = 60, 80


def _line_wrap(document: Document, rng: Random) -> list[Edit]:
    width = rng.randint(*_WIDTHS)
    edits = []
    line, blank = 0, -1  # where the line begins, and its last blank
    for i, character in enumerate(document.text):
        if character == "\n":
            line = i + 1
        elif character == " ":
            blank = i
        if i - line >= width and blank >= line:
            edits.append(Edit(blank, blank + 1, "\n"))
            line = blank + 1
    return edits


def _line_breaks_in_mentions(document: Document, rng: Random) -> list[Edit]:
    broken: set[int] = set()
    for entity in document.entities:
        blanks = [i for i in range(entity.start, entity.end) if document.text[i] == " "]
        if blanks and broken.isdisjoint(blanks):
            broken.add(rng.choice(blanks))
    return [Edit(i, i + 1, "\n") for i in sorted(broken)]


# --- typos ------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]{4,}")
_TYPO_SHARE = 0.03
# The keys to the left and to the right of a letter.
_KEYS = {
    key: before + after
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for before, key, after in zip(f" {row}", row, f"{row[1:]} ", strict=False)
}


def _typos(document: Document, rng: Random) -> list[Edit]:
    return [
        _typo(document.text, word, rng) for word in _words(document) if rng.random() < _TYPO_SHARE
    ]


def _typos_in_mentions(document: Document, rng: Random) -> list[Edit]:
    words = _words(document)
    chosen: set[tuple[int, int]] = set()
    for entity in document.entities:
        own = [word for word in words if entity.start <= word[0] and word[1] <= entity.end]
        if own and chosen.isdisjoint(own):
            chosen.add(rng.choice(own))
    return [_typo(document.text, word, rng) for word in sorted(chosen)]


def _words(document: Document) -> list[tuple[int, int]]:
    """Words of four letters or more, but those that a mention begins or ends within."""
    edges = sorted(edge for entity in document.entities for edge in (entity.start, entity.end))
    spans = (found.span() for found in _WORD.finditer(document.text))
    return [
        (start, end)
        for start, end in spans
        if bisect_right(edges, start) == bisect_left(edges, end)
    ]


def _typo(text: str, word: tuple[int, int], rng: Random) -> Edit:
    """Two letters swapped, one dropped, one doubled, or a key beside the right one."""
    places = range(*word)
    swapped = [Edit(i, j + 1, text[j] + text[i]) for i, j in pairwise(places) if text[i] != text[j]]
    dropped = [Edit(i, i + 1, "") for i in places]
    doubled = [Edit(i, i + 1, 2 * text[i]) for i in places]
    beside = [Edit(i, i + 1, key) for i in places for key in _keys_beside(text[i])]
    return rng.choice(rng.choice([kind for kind in (swapped, dropped, doubled, beside) if kind]))


def _keys_beside(letter: str) -> str:
    keys = _KEYS.get(letter.lower(), "").strip()
    return keys.upper() if letter.isupper() else keys


DISTURBANCES = (
    Disturbance("capitals", "Every letter is a capital.", 1, _capitals),
    Disturbance("lower_case", "No letter is a capital.", 1, _lower_case),
    Disturbance(
        "headings",
        "A section heading in capitals stands before the text and before a third of the other "
        "sentences.",
        1,
        _headings,
    ),
    Disturbance("lists", "Every sentence is an item of a numbered or dashed list.", 1, _lists),
    Disturbance(
        "placeholders",
        "De-identification placeholders as in MIMIC-III stand at one in twenty places between "
        "words, outside of mentions.",
        1,
        _placeholders,
    ),
    Disturbance(
        "line_wrap",
        "Lines are broken at blanks, also within mentions, to fit in 60 to 80 columns.",
        1,
        _line_wrap,
    ),
    Disturbance(
        "line_breaks_in_mentions",
        "Every mention of several words is broken over two lines.",
        1,
        _line_breaks_in_mentions,
    ),
    Disturbance(
        "typos",
        "Three in a hundred words of four letters or more have a typo, in mentions and outside "
        "alike.",
        1,
        _typos,
    ),
    Disturbance(
        "typos_in_mentions",
        "Every mention has a typo in one of its words of four letters or more.",
        1,
        _typos_in_mentions,
    ),
)
