"""What standoff formats say of a mention besides its place: its words, and its concept."""

from collections.abc import Sequence

from ...errors import OpenMedError

# How an annotation says that it has no concept.
NO_CONCEPT = ("", "-")
# What would end a column or a line.
ONE_BLANK = str.maketrans("\t\r\n", "   ")


def add_concept(
    concepts: dict[tuple[int, int, str], str], key: tuple[int, int, str], concept: str
) -> None:
    """Note the concept of an entity; a second one is joined to the first with "|".

    key (tuple[int, int, str]): Start, end and label of the entity.
    """
    known = concepts.setdefault(key, concept)
    new = [part for part in concept.split("|") if part not in known.split("|")]
    concepts[key] = "|".join([known, *new])


def check_mention(text: str, spans: Sequence[tuple[int, int]], given: str, where: str) -> None:
    """See that a mention's offsets lead to the words that its annotation gives.

    Of a discontinuous mention these are its parts, one blank apart, or all from the first part
    to the last. TAB and line breaks may be given as blanks, and characters outside ASCII as
    others (PubTator writes "TNF-a" for "TNF-α"), as long as their number is the same.

    spans (Sequence[tuple[int, int]]): Character ranges of the parts, inside the text.
    RAISES (OpenMedError): Other words are there; names both.
    """
    parts = " ".join(text[start:end] for start, end in spans)
    whole = text[min(start for start, _ in spans) : max(end for _, end in spans)]
    if not any(_agree(found, given) for found in (parts, whole)):
        raise OpenMedError(
            f"{where}: the text has {parts!r} where the annotation has {given!r}. Offsets have "
            f"to count characters from the start of the document."
        )


def _agree(found: str, given: str) -> bool:
    found, given = found.translate(ONE_BLANK), given.translate(ONE_BLANK)
    if found == given:
        return True
    ascii_pairs = [(a, b) for a, b in zip(found, given, strict=False) if a.isascii()]
    return (
        len(found) == len(given)
        and any(a.isalnum() for a, _ in ascii_pairs)
        and all(a == b for a, b in ascii_pairs)
    )
