"""JSONL: {"id", "text", "entities": [{"start", "end", "label", "text", "score", "dataset"}, …]}.

``corpora.formats.jsonl`` reads it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...corpora.documents import Document
from ..records import Found
from .joined import Joined


def writer(target: Path) -> Joined:
    return Joined(_line)


def _line(document: Document, found: Sequence[Found]) -> bytes:
    row: dict[str, Any] = {"id": document.id, "text": document.text}
    row["entities"] = entities(document, found)
    if document.passages:
        row["passages"] = document.passages
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def entities(document: Document, found: Sequence[Found]) -> list[dict[str, Any]]:
    """What was found in a document, each with its words."""
    return [
        {
            "start": one.start,
            "end": one.end,
            "label": one.label,
            "text": document.text[one.start : one.end],
            "score": one.score,
            "dataset": one.dataset,
        }
        for one in found
    ]
