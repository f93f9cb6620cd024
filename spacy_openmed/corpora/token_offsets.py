"""Where a corpus's tokens lie in its original text, and its annotations with them."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple

from ..entities import Entity
from ..errors import OpenMedError
from .documents import Document

_Span = tuple[int, int]

_BRACKETS = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
}
# How converters to ASCII write what the Unicode database does not spell out. All quotes
# become apostrophes, because "``", "''" and '"' stand for the same one.
_ASCII = {
    **dict.fromkeys("`´‘’′", "'"),
    **dict.fromkeys('"“”″', "''"),
    **dict.fromkeys("·⋅", "."),
    **dict.fromkeys("•▪", "*"),
    "∶": ":",
    "—": "--",
    "−": "-",
    "∼": "~",
    "×": "x",
    "±": "+/-",
    "≤": "<=",
    "≥": ">=",
    "→": "-->",
    "°": "degrees",
    "λ": "lambda",
    "Λ": "Lambda",
    "µ": "micro",
    "®": "(R)",
    "™": "(TM)",
    "∑": "sum",
    "\ufffd": "<FFFD>",
}
_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)")
_ATOM = re.compile(r"[^\W_]+|\S")
# What may differ besides known spellings: a word here and there, not the text.
_LONGEST_CHANGE = 40
_LARGEST_SHARE = 0.1


def token_offsets(tokens: Sequence[str], text: str, where: str = "") -> list[_Span]:
    """Find a corpus's tokens in its original text.

    Blanks and line breaks count on neither side. Where the rest is not the same to the
    character, known spellings are taken for each other ("``" and '"', "-LRB-" and "(",
    "alpha" and "α", "+/-" and "±"), and then the differences are found by comparing words
    and, in words that differ, characters.

    tokens (Sequence[str]): In text order.
    text (str): Original text.
    where (str): Document, for the message.
    RETURNS (list[tuple[int, int]]): Character range of each token, disjoint and in order. A
        token that the text lacks, or that shares its only character with the token before
        it (">" and "=" of "≥"), has an empty one.
    RAISES (OpenMedError): An empty token, or the text is another one; names the first place
        that does not match.
    """
    for number, token in enumerate(tokens, 1):
        if not token.strip():
            raise OpenMedError(f"{_prefix(where)}token {number} is empty.")
    spans = _identical(tokens, text)
    return _similar(tokens, text, where) if spans is None else spans


def document_on_text(document: Document, text: str, where: str = "") -> Document:
    """Move a tokenised document to its original text.

    document (Document): With tokens; entities and passages begin and end at tokens.
    text (str): Original text.
    where (str): Document, for the message; its id by default.
    RETURNS (Document): A new one. Tokens that have no character of their own in the text
        are left out.
    RAISES (OpenMedError): See ``token_offsets``; or an entity does not lie on tokens, or has
        other characters in the text, known spellings and blanks aside.
    """
    where = where or document.id
    words = [document.text[start:end] for start, end in document.tokens]
    tokens = token_offsets(words, text, where)
    firsts = {start: i for i, (start, _) in enumerate(document.tokens)}
    lasts = {end: i for i, (_, end) in enumerate(document.tokens)}

    def first_and_last(start: int, end: int, what: str) -> tuple[int, int]:
        if start not in firsts or end not in lasts:
            raise OpenMedError(
                f"{_prefix(where)}{what} {start} to {end} does not begin and end at tokens."
            )
        return firsts[start], lasts[end]

    entities = []
    concepts = {}
    for entity in document.entities:
        first, last = first_and_last(entity.start, entity.end, f"{entity.label} entity")
        start, end = tokens[first][0], tokens[last][1]
        if not _same(words[first : last + 1], text[start:end]):
            raise OpenMedError(
                f"{_prefix(where)}{entity.label} entity "
                f"{document.text[entity.start : entity.end]!r} is {text[start:end]!r} in the text, "
                f"characters {start} to {end}."
            )
        entities.append(Entity(start, end, entity.label, entity.score))
        if entity[:3] in document.concepts:
            concepts[start, end, entity.label] = document.concepts[entity[:3]]
    passages = []
    for start, end, name in document.passages:
        first, last = first_and_last(start, end, f"passage '{name}'")
        passages.append((tokens[first][0], tokens[last][1], name))
    kept = [0, *accumulate(int(start < end) for start, end in tokens)]
    return Document(
        document.id,
        text,
        entities,
        tokens=[(start, end) for start, end in tokens if start < end],
        sentences=[
            (kept[first], kept[stop])
            for first, stop in document.sentences
            if kept[first] < kept[stop]
        ],
        concepts=concepts,
        passages=passages,
    )


def _same(words: Sequence[str], text: str) -> bool:
    """Whether a text is these words, blanks and known spellings aside."""
    # Literally first: a text may itself have "-LRB-", which as a token stands for "(".
    literal = "".join("".join(words).split()) == "".join(text.split())
    return literal or "".join(map(_plain_token, words)) == _plain(text)


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


def _identical(tokens: Sequence[str], text: str) -> list[_Span] | None:
    """Ranges, if the non-blank characters are the same."""
    spans = []
    end = 0
    for token in tokens:
        start = _skip_blanks(text, end)
        if text.startswith(token, start):
            end = start + len(token)
        else:
            end = start
            for character in "".join(token.split()):
                end = _skip_blanks(text, end)
                if not text.startswith(character, end):
                    return None
                end += 1
        spans.append((start, end))
    return spans if not text[end:].strip() else None


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _similar(tokens: Sequence[str], text: str, where: str) -> list[_Span]:
    """Ranges by known spellings and, where these are not enough, by what words differ."""
    ours = [_atoms(token) for token in tokens]
    theirs, sources = _spelling(text)
    places, changes = _compare([atom for atoms in ours for atom in atoms], theirs)
    lengths = [sum(map(len, atoms)) for atoms in ours]
    wrong = [change for change in changes if change.size > _LONGEST_CHANGE]
    if not wrong and sum(c.size for c in changes) > _LARGEST_SHARE * max(len(places), len(sources)):
        wrong = changes
    if wrong:
        number = bisect_right(list(accumulate(lengths)), wrong[0].ours)
        token = repr(tokens[number]) if number < len(tokens) else "none"
        start = sources[wrong[0].theirs] if wrong[0].theirs < len(sources) else len(text)
        raise OpenMedError(
            f"{_prefix(where)}tokens and text do not match: token {number + 1} is {token}, and the "
            f"text goes on with {text[start : start + 20]!r} at character {start}."
        )
    spans = []
    position = 0
    end = 0
    for length in lengths:
        found_places = [(a, b) for a, b in places[position : position + length] if a < b]
        position += length
        start = max(end, sources[found_places[0][0]]) if found_places else end
        end = max(start, sources[found_places[-1][1] - 1] + 1) if found_places else end
        spans.append((start, end))
    return spans


class _Change(NamedTuple):
    """A difference: where it begins, and its length in the longer of both."""

    ours: int
    theirs: int
    size: int


def _compare(ours: list[str], theirs: list[str]) -> tuple[list[_Span], list[_Change]]:
    """Align the characters of two lists of words.

    RETURNS (tuple): For each character of ours its range among theirs, empty where it has
        no counterpart; and what differs.
    """
    if "".join(ours) == "".join(theirs):
        return [(i, i + 1) for i in range(sum(map(len, ours)))], []
    places: list[_Span] = []
    changes = []
    there = 0
    for kind, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        left, right = "".join(ours[a:b]), "".join(theirs[c:d])
        parts = [(kind, 0, len(left), 0, len(right))]
        if kind != "equal" and max(len(left), len(right)) <= _LONGEST_CHANGE:
            parts = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        for part, i, j, k, m in parts:
            if part == "equal":
                places += [(there + x, there + x + 1) for x in range(k, m)]
            else:
                changes.append(_Change(len(places), there + k, max(j - i, m - k)))
                places += [(there + k, there + m)] * (j - i)
        there += len(right)
    return places, changes


def _spelling(text: str) -> tuple[list[str], list[int]]:
    """Words as ASCII writes them, and the place in the text of each of their characters."""
    spelled = [ascii_spelling(character) for character in text]
    sources = [i for i, s in enumerate(spelled) for _ in s]
    words = []
    kept: list[int] = []
    for match in _ATOM.finditer("".join(spelled)):
        words.append(match.group())
        kept += sources[match.start() : match.end()]
    return words, kept


@lru_cache(maxsize=10_000)
def _atoms(token: str) -> tuple[str, ...]:
    return tuple(_spelling(_BRACKETS.get(token, token))[0])


def _plain(text: str) -> str:
    """A text in ASCII where that is known, without blanks."""
    return "".join(_spelling(text)[0])


def _plain_token(token: str) -> str:
    return "".join(_atoms(token))


@cache
def ascii_spelling(character: str) -> str:
    """How a converter to ASCII writes a character; as it is, if there is no usual way."""
    if character in _ASCII:
        return _ASCII[character]
    greek = _GREEK.fullmatch(unicodedata.name(character, ""))
    if greek:
        # Unicode's own spelling is "LAMDA".
        name = greek[2].replace("LAMDA", "LAMBDA")
        return name.lower() if greek[1] == "SMALL" else name.capitalize()
    category = unicodedata.category(character)
    if category == "Pd":
        return "-"
    if category == "Cf":
        return ""
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if not unicodedata.combining(part))
