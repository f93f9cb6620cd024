"""JSONL with character offsets: {"id", "text", "entities": [[start, end, label(, concept)], …]}.

Passages, where a document has them, are a further key "passages": [[start, end, name], …].
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .lines import numbered_lines


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents one at a time.

    path (Path): The file, UTF-8.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): Entities may be nested.
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    for where, line in numbered_lines(path):
        if line.strip():
            try:
                document = _document(line, types, where)
            except OpenMedError as error:
                on_error(error)
            else:
                yield document


def write(documents: Iterable[Document], path: Path) -> None:
    """Write documents one at a time; the file appears when all are written."""
    with atomic_file(path) as part, part.open("w", encoding="utf8") as file:
        for document in documents:
            file.write(_line(document) + "\n")


def _line(document: Document) -> str:
    row: dict[str, Any] = {"id": document.id, "text": document.text, "entities": []}
    for start, end, label, _ in document.entities:
        concept = document.concepts.get((start, end, label))
        row["entities"].append([start, end, label] + ([concept] if concept else []))
    if document.passages:
        row["passages"] = document.passages
    try:
        line = json.dumps(row, ensure_ascii=False)
        line.encode("utf8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but JSON can escape it.
        line = json.dumps(row)
    return line


def _document(line: str, types: Mapping[str, str] | None, where: str) -> Document:
    try:
        row = json.loads(line)
        text = row["text"]
        if not isinstance(text, str):
            raise TypeError(f"text is {text!r}")
        entities = []
        concepts = {}
        for item in row.get("entities", []):
            if len(item) < 3:
                raise TypeError(f"entity is {item!r}")
            start, end = check_span(item[0], item[1], text, where)
            entity = Entity(start, end, user_label(str(item[2]), types, where))
            entities.append(entity)
            if len(item) > 3 and item[3]:
                concepts[entity[:3]] = str(item[3])
        passages = [(int(a), int(b), str(name)) for a, b, name in row.get("passages", [])]
        identifier = row.get("id")
        return Document(
            "" if identifier is None else str(identifier),
            text,
            entities,
            concepts=concepts,
            passages=passages,
        )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OpenMedError):
            raise
        raise OpenMedError(
            f"{where}: not an object with text and entities [[start, end, label], …]: {error!r}"
        ) from error
