"""A document with what was found as its entities, for writers of the corpora's formats."""

import re
from collections.abc import Sequence
from dataclasses import replace

from ...corpora.documents import Document
from ...entities import Entity
from ..records import Found


def annotated(
    document: Document, found: Sequence[Found], impossible: re.Pattern[str] | None = None
) -> Document:
    """The document with entities.

    impossible (re.Pattern | None): Characters that the format cannot hold become blanks, so
        that offsets stay.
    """
    text = document.text if impossible is None else impossible.sub(" ", document.text)
    return replace(document, text=text, entities=[Entity(*one[:4]) for one in found])
