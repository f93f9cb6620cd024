"""PubTator, which holds neither line breaks, for which blanks stand, nor scores."""

import re
from collections.abc import Sequence
from pathlib import Path

from ...corpora.documents import Document
from ...corpora.formats import pubtator
from ..records import Found
from .joined import Joined
from .standing import annotated

_LINE_BREAK = re.compile(r"[\r\n]")


def writer(target: Path) -> Joined:
    return Joined(_lines)


def _lines(document: Document, found: Sequence[Found]) -> bytes:
    where = f"document '{document.id}'"
    return pubtator.encode(annotated(document, found, _LINE_BREAK), where).encode()
