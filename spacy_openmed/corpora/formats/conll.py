"""CoNLL files: one token and its BIO2 tag a line, a blank line after each sentence."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from ...entities import Entity
from ...errors import OpenMedError
from ..documents import Document, user_label
from .lines import numbered_lines

_DOCUMENT = "# doc = "


def read(path: Path, types: Mapping[str, str] | None = None) -> Iterator[Document]:
    """Read whole documents, their tokens joined by single blanks.

    A line ``# doc = ID`` starts a document; where there are none, every sentence is one.

    path (Path): The file, UTF-8, token TAB tag.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    YIELDS (Document): With tokens and sentences.
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    rows: list[tuple[str, str]] = []
    breaks: list[int] = []
    name = ""
    has_documents = False
    for where, line in numbered_lines(path):
        if line.startswith(_DOCUMENT) and "\t" not in line:
            if rows:
                yield _document(name, rows, breaks, types)
            rows, breaks, name, has_documents = [], [], line[len(_DOCUMENT) :], True
        elif line.strip():
            rows.append(_row(line, rows, breaks, types, where))
        elif rows:
            breaks.append(len(rows))
            if not has_documents:
                yield _document(name, rows, breaks, types)
                rows, breaks = [], []
    if rows:
        yield _document(name, rows, breaks, types)


def _row(
    line: str,
    rows: list[tuple[str, str]],
    breaks: list[int],
    types: Mapping[str, str] | None,
    where: str,
) -> tuple[str, str]:
    columns = line.split("\t")
    tag = columns[-1]
    is_tag = tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)
    if len(columns) < 2 or not columns[0] or not is_tag:
        raise OpenMedError(f"{where}: expected a token, a TAB and a tag O, B-X or I-X: {line!r}")
    if tag != "O":
        user_label(tag[2:], types, where)
    if tag.startswith("I-"):
        sentence_start = not rows or (breaks and breaks[-1] == len(rows))
        if sentence_start or rows[-1][1][1:] != tag[1:]:
            raise OpenMedError(f"{where}: {tag} follows neither B-{tag[2:]} nor I-{tag[2:]}.")
    return columns[0], tag


def _document(
    name: str,
    rows: list[tuple[str, str]],
    breaks: list[int],
    types: Mapping[str, str] | None,
) -> Document:
    tokens = []
    entities: list[Entity] = []
    position = 0
    for token, tag in rows:
        span = (position, position + len(token))
        tokens.append(span)
        position = span[1] + 1
        if tag.startswith("B-"):
            entities.append(Entity(*span, tag[2:] if types is None else types[tag[2:]]))
        elif tag.startswith("I-"):
            entities[-1] = entities[-1]._replace(end=span[1])
    edges = sorted({0, *breaks, len(rows)})
    return Document(
        id=name,
        text=" ".join(token for token, _ in rows),
        entities=entities,
        tokens=tokens,
        sentences=list(pairwise(edges)),
    )
