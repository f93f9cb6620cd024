"""Tag schemes: entities as one tag a token, and back.

| scheme | also called | begins | inside | ends | of one token |
|---|---|---|---|---|---|
| BIO2 | IOB2, BIO | B | I | I | B |
| IOB1 | | I; B directly after an entity of the same type | I | I | as it begins |
| BIOES | IOBES | B | I | E | S |
| BILUO | BILOU | B | I | L | U |

A token outside is "O". In each scheme two neighbouring tags decide whether they may stand so.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..errors import OpenMedError

Span = tuple[int, int, str]

# How an entity begins, goes on, ends, and what one of one token is.
_LETTERS = {
    "BIO2": ("B", "I", "I", "B"),
    "IOB1": ("I", "I", "I", "I"),
    "BIOES": ("B", "I", "E", "S"),
    "BILUO": ("B", "I", "L", "U"),
}
SCHEMES = tuple(_LETTERS)
_ALSO = {"IOB2": "BIO2", "BIO": "BIO2", "IOBES": "BIOES", "BILOU": "BILUO"}
_ANY_TAG = re.compile("O|[BIESLU]-.+")


def find_scheme(name: str) -> str:
    """A scheme by any of its names, in any case.

    RETURNS (str): One of ``SCHEMES``.
    RAISES (OpenMedError): Unknown.
    """
    upper = name.upper()
    if _ALSO.get(upper, upper) not in SCHEMES:
        raise OpenMedError(f"Unknown tag scheme '{name}'. Known: {', '.join((*SCHEMES, *_ALSO))}.")
    return _ALSO.get(upper, upper)


class Detector:
    """Finds the scheme of a stream of sentences; needs memory for the kinds of tags only.

    It is the scheme with the fewest faults in all of them, so that one wrong line is a fault
    and not another scheme; BIO2, where several have as few. It is not IOB1 where that has no
    use for a B: wrong tags that begin with I are more frequent than files in IOB1.
    """

    def __init__(self) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()

    def add(self, tags: Sequence[str]) -> None:
        """Take a sentence into account. What is no tag of any scheme counts as "O"."""
        known = [tag if _ANY_TAG.fullmatch(tag) else "O" for tag in tags]
        self._pairs.update(pairwise(["O", *known, "O"]))

    def scheme(self) -> str:
        """One of ``SCHEMES``, for the sentences so far."""

        def faults(scheme: str) -> int:
            return sum(n for pair, n in self._pairs.items() if _fault(*pair, scheme))

        begun = any(tag[0] == "B" and _fault(before, tag, "IOB1") for before, tag in self._pairs)
        return min((s for s in SCHEMES if not (begun and s == "IOB1")), key=faults)


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme of the tags of sentences; see ``Detector``."""
    detector = Detector()
    for tags in sentences:
        detector.add(tags)
    return detector.scheme()


def decode(tags: Sequence[str], scheme: str = "BIO2", where: Sequence[str] = ()) -> list[Span]:
    """Entities of a sentence.

    tags (Sequence[str]): "O", or a letter of the scheme, a hyphen and a type.
    scheme (str): Any of its names.
    where (Sequence[str]): Place of each tag, for messages; "tag 1" and so on by default.
    RETURNS (list[Span]): First token, token after the last, label; disjoint, in order.
    RAISES (OpenMedError): A tag that is none of the scheme, or that cannot stand after the
        one before it; names the place.
    """
    scheme = find_scheme(scheme)
    spans: list[Span] = []
    for i, (previous, tag) in enumerate(pairwise(["O", *tags, "O"])):
        fault = _fault(previous, tag, scheme)
        if fault:
            at = i - fault.back
            raise OpenMedError(f"{where[at] if where else f'tag {at + 1}'}: {fault.reason}")
        if tag == "O":
            continue
        label = tag[2:]
        if tag[0] in "BSU" or not _goes_on(previous, label):
            spans.append((i, i + 1, label))
        else:
            spans[-1] = (spans[-1][0], i + 1, label)
    return spans


def encode(spans: Iterable[Span], length: int, scheme: str = "BIO2") -> list[str]:
    """One tag a token.

    spans (Iterable[Span]): First token, token after the last, label; disjoint.
    length (int): Tokens of the sentence.
    scheme (str): Any of its names.
    RETURNS (list[str]): ``length`` tags.
    RAISES (OpenMedError): A span is empty, outside the sentence, or overlaps another.
    """
    scheme = find_scheme(scheme)
    begins, inside, ends, single = _LETTERS[scheme]
    tags = ["O"] * length
    before = 0
    for first, stop, label in sorted(spans):
        if not before <= first < stop <= length:
            raise OpenMedError(
                f"{label} entity of tokens {first} to {stop} is empty, outside the {length} "
                f"tokens or overlaps another: tags cannot say so."
            )
        before = stop
        middle = [inside] * (stop - first - 2)
        letters = [single] if stop - first == 1 else [begins, *middle, ends]
        if scheme == "IOB1" and first and _goes_on(tags[first - 1], label):
            letters[0] = "B"
        tags[first:stop] = [f"{letter}-{label}" for letter in letters]
    return tags


def is_tag(tag: str, scheme: str) -> bool:
    """Whether a tag has the form of a scheme's, one of ``SCHEMES``."""
    return tag == "O" or (
        len(tag) > 2 and tag[1] == "-" and (tag[0] in "BI" or tag[0] in _LETTERS[scheme])
    )


def tag_form(scheme: str) -> str:
    """What tags of a scheme look like, for messages: "O, B-X or I-X"."""
    letters = [f"{letter}-X" for letter in dict.fromkeys(("B", "I", *_LETTERS[scheme]))]
    return f"O, {', '.join(letters[:-1])} or {letters[-1]}"


def _goes_on(previous: str, label: str) -> bool:
    """Whether the tag before is that of an entity of this label which may go on."""
    return previous in (f"B-{label}", f"I-{label}")


class _Fault(NamedTuple):
    """What is wrong with a tag: this one, or ``back`` tags before it."""

    back: int
    reason: str


@lru_cache(maxsize=10_000)
def _fault(previous: str, tag: str, scheme: str) -> _Fault | None:
    if not is_tag(tag, scheme):
        return _Fault(0, f"{tag!r} is no tag of {scheme}: expected {tag_form(scheme)}.")
    letter, label = tag[0], tag[2:]
    ends = _LETTERS[scheme][2]
    goes_on = _goes_on(previous, label)
    if scheme == "IOB1":
        if letter == "B" and not goes_on:
            reason = f"{tag} does not follow an entity of its type: IOB1 begins others with I."
            return _Fault(0, reason)
        return None
    # Where an entity has an end of its own, it is wrong with one that has none.
    if ends != "I" and previous[0] in "BI" and not (goes_on and letter in ("I", ends)):
        begun = previous[2:]
        return _Fault(1, f"{previous} is followed by {tag}, not by I-{begun} or {ends}-{begun}.")
    if letter in ("I", ends) and not goes_on:
        return _Fault(0, f"{tag} follows neither B-{label} nor I-{label}.")
    return None
