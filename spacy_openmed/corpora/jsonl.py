"""JSONL with character offsets: {"id", "text", "entities": [[start, end, label], …]}."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..entities import Entity
from ..errors import OpenMedError
from .documents import Document, numbered_lines


def read_jsonl(path: Path, types: Mapping[str, str] | None = None) -> Iterator[Document]:
    """Read documents one at a time.

    path (Path): The file, UTF-8.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    YIELDS (Document): Entities may be nested.
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    for where, line in numbered_lines(path):
        if line.strip():
            yield _document(line, types, where)


def _document(line: str, types: Mapping[str, str] | None, where: str) -> Document:
    try:
        row = json.loads(line)
        text = row["text"]
        if not isinstance(text, str):
            raise TypeError(f"text is {text!r}")
        entities = [_entity(item, text, types, where) for item in row.get("entities", [])]
        return Document(str(row.get("id", "")), text, entities)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OpenMedError):
            raise
        raise OpenMedError(
            f"{where}: not an object with text and entities [[start, end, label], …]: {error!r}"
        ) from error


def _entity(item: list[object], text: str, types: Mapping[str, str] | None, where: str) -> Entity:
    start, end, label = item[:3]
    if not (type(start) is int and type(end) is int and 0 <= start < end <= len(text)):
        raise OpenMedError(f"{where}: entity {item} lies outside its text of {len(text)} chars.")
    return Entity(start, end, rename(str(label), types, where))


def rename(label: str, types: Mapping[str, str] | None, where: str) -> str:
    """The user-facing label of a corpus type.

    RAISES (OpenMedError): The corpus is not supposed to have that type.
    """
    if types is None:
        return label
    if label not in types:
        raise OpenMedError(f"{where}: unexpected type '{label}'. Expected: {', '.join(types)}.")
    return types[label]
