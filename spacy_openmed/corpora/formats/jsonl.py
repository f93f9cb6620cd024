"""JSONL with character offsets: {"id", "text", "entities": [[start, end, label(, concept)], …]}.

Passages, where a document has them, are a further key "passages": [[start, end, name], …].

What annotation tools export is read, too. The entities may be called "spans" (Prodigy), "label"
or "labels" (doccano), and each may be an object with "start" and "end" (or "start_offset" and
"end_offset"), "label" and, if it has one, "kb_id". Rows whose "answer" (Prodigy's) is not
"accept" are left out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .ids import UniqueIds
from .lines import check_line, numbered_lines
from .reading import check_passages, explained, read_each

_ENTITIES = ("entities", "spans", "label", "labels")


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
    lines = (
        (number, where, line)
        for number, (where, line) in enumerate(numbered_lines(path, escaped=True), 1)
        if line.strip()
    )
    yield from read_each(lines, lambda line, where: _document(line, types, where), "line", on_error)


def write(documents: Iterable[Document], path: Path) -> None:
    """Write documents one at a time; the file appears when all are written.

    RAISES (OpenMedError): An id comes twice.
    """
    ids = UniqueIds("document")
    with atomic_file(path) as part, part.open("w", encoding="utf8") as file:
        for number, document in enumerate(documents, 1):
            ids.check(document.id, number, f"document {number}")
            file.write(_line(document) + "\n")


def _line(document: Document) -> str:
    row: dict[str, Any] = {"id": document.id, "text": document.text, "entities": []}
    for start, end, label, *_ in document.entities:
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


def _document(line: str, types: Mapping[str, str] | None, where: str) -> Document | None:
    check_line(line, where)
    try:
        row = json.loads(line)
    # Besides what is no JSON, numbers of more digits than Python takes.
    except (ValueError, RecursionError) as error:
        raise OpenMedError(f"{where}: not an object in JSON: {error}") from error
    return from_row(row, types, where)


def from_row(row: Any, types: Mapping[str, str] | None, where: str) -> Document | None:
    """A document from one object.

    row (Any): As the module's first lines say.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    where (str): File and line, for the message.
    RETURNS (Document | None): None if an annotator rejected or ignored the text.
    RAISES (OpenMedError): Not as it should be.
    """
    expected = "not an object with text and entities [[start, end, label], …]"
    with explained(f"{where}: {expected}"):
        if row.get("answer", "accept") != "accept":
            return None
        text = row["text"]
        if not isinstance(text, str):
            raise TypeError(f"text is {text!r}")
        entities = []
        concepts = {}
        for item in _annotations(row, where):
            entity, concept = _entity(item, text, types, where)
            entities.append(entity)
            if concept:
                concepts[entity[:3]] = str(concept)
        identifier = row.get("id")
        return Document(
            "" if identifier is None else str(identifier),
            text,
            entities,
            concepts=concepts,
            passages=check_passages(row.get("passages", []), text, where),
        )


def _annotations(row: Mapping[str, Any], where: str) -> Iterable[Any]:
    """The entities, under whichever key they are; tools leave others empty beside it."""
    given = [key for key in _ENTITIES if key in row]
    known = [key for key in given if row[key] is not None]
    if given and not known:
        raise TypeError(f"{' and '.join(given)}: null")
    filled = [key for key in known if not (isinstance(row[key], Sized) and len(row[key]) == 0)]
    if len(filled) > 1:
        raise OpenMedError(
            f"{where}: entities may be in {' or in '.join(filled)}. Leave one of them."
        )
    return row[filled[0]] if filled else ()


def _entity(
    item: Any, text: str, types: Mapping[str, str] | None, where: str
) -> tuple[Entity, object]:
    """RETURNS (tuple[Entity, object]): The entity and its concept, if it has one."""
    if isinstance(item, Mapping):
        kind = "" if "start" in item else "_offset"
        start, end, label = item[f"start{kind}"], item[f"end{kind}"], item["label"]
        concept = item.get("kb_id")
    elif isinstance(item, list | tuple):
        start, end, label, *more = item
        concept = more[0] if more else None
    else:
        raise TypeError(f"entity is {item!r}")
    start, end = check_span(start, end, text, where)
    if not isinstance(label, str) or not label:
        raise TypeError(f"label of entity {start} to {end} is {label!r}")
    return Entity(start, end, user_label(label, types, where)), concept
