"""A document with annotations, as every reader yields it and every writer takes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..entities import Entity
from ..errors import OpenMedError


@dataclass(frozen=True)
class Document:
    """Text and entities, with what else the source says of them.

    id (str): Name in the corpus, may be "".
    text (str): Raw text.
    entities (list[Entity]): Annotated; may be nested or overlapping.
    tokens (list[tuple[int, int]]): Character ranges of the corpus's tokens, or empty.
    sentences (list[tuple[int, int]]): Token ranges of its sentences, or empty.
    concepts (Mapping): (start, end, label) of an entity to its concept id ("D003920",
        "9606"), for those that have one.
    passages (list[tuple[int, int, str]]): Character ranges of named parts ("title",
        "abstract"), or empty.
    """

    id: str
    text: str
    entities: list[Entity]
    tokens: list[tuple[int, int]] = field(default_factory=list)
    sentences: list[tuple[int, int]] = field(default_factory=list)
    concepts: Mapping[tuple[int, int, str], str] = field(default_factory=dict)
    passages: list[tuple[int, int, str]] = field(default_factory=list)


def labels_of(documents: Iterable[Document]) -> set[str]:
    """Of all annotated entities."""
    return {entity.label for document in documents for entity in document.entities}


def user_label(label: str, types: Mapping[str, str] | None, where: str) -> str:
    """The user-facing label of a corpus type.

    types (Mapping[str, str] | None): Corpus types to user-facing labels; None keeps all.
    where (str): File and line, for the message.
    RAISES (OpenMedError): The corpus is not supposed to have that type.
    """
    if types is None:
        return label
    if label not in types:
        raise OpenMedError(f"{where}: unexpected type '{label}'. Expected: {', '.join(types)}.")
    return types[label]


def check_span(start: object, end: object, text: str, where: str) -> tuple[int, int]:
    """The range of an entity, if it is one of its text.

    RAISES (OpenMedError): Not two integers, empty, or outside the text.
    """
    if not (type(start) is int and type(end) is int and 0 <= start < end <= len(text)):
        raise OpenMedError(
            f"{where}: entity {start!r} to {end!r} lies outside its text of {len(text)} characters."
        )
    return start, end
