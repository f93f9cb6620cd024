"""BioC, XML or JSON; scores and datasets are infons of the annotations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...corpora.documents import Document
from ...corpora.formats import bioc
from ...errors import OpenMedError
from ..records import Found
from .joined import Joined
from .standing import annotated


def writer(target: Path) -> Joined:
    """A writer of one of the two.

    RAISES (OpenMedError): The suffix is of neither.
    """
    suffix = target.suffix.lower()
    if suffix not in bioc.SEPARATORS:
        raise OpenMedError(f"{target}: BioC files end in .xml or .json.")
    impossible = bioc.NOT_XML if suffix == ".xml" else None

    def encode(document: Document, found: Sequence[Found]) -> bytes:
        infons = [{"score": f"{one.score:.4f}", "dataset": one.dataset} for one in found]
        return bioc.encode(_without_gaps(annotated(document, found, impossible)), suffix, infons)

    before, after = bioc.frame(suffix)
    return Joined(encode, before, after, bioc.FIRST, bioc.SEPARATORS[suffix])


def _without_gaps(document: Document) -> Document:
    """Blanks for the line breaks between passages, which would be passages themselves."""
    text = document.text
    position = 0
    for start, end, _ in document.passages:
        if text[position:start].isspace():
            text = text[:position] + " " * (start - position) + text[start:]
        position = end
    return replace(document, text=text)
