"""CoNLL files: one token and its BIO2 tag a line, a blank line after each sentence."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..entities import Entity
from ..errors import OpenMedError
from .documents import Document
from .jsonl import rename

_DOCUMENT = "# doc = "


def read_conll(path: Path, types: Mapping[str, str] | None = None) -> Iterator[Document]:
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
    with path.open(encoding="utf-8-sig", newline=None) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            where = f"{path}, line {number}"
            if line.startswith(_DOCUMENT) and "\t" not in line:
                if rows:
                    yield _document(name, rows, breaks, types, where)
                rows, breaks, name, has_documents = [], [], line[len(_DOCUMENT) :], True
            elif line.strip():
                rows.append(_row(line, rows, breaks, where))
            elif rows:
                breaks.append(len(rows))
                if not has_documents:
                    yield _document(name, rows, breaks, types, where)
                    rows, breaks = [], []
    if rows:
        yield _document(name, rows, breaks, types, str(path))


def _row(line: str, rows: list[tuple[str, str]], breaks: list[int], where: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) < 2 or not columns[0] or columns[-1][:2] not in ("O", "B-", "I-"):
        raise OpenMedError(f"{where}: expected a token, a TAB and a tag O, B-X or I-X: {line!r}")
    tag = columns[-1]
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
    where: str,
) -> Document:
    tokens = []
    entities: list[Entity] = []
    position = 0
    for token, tag in rows:
        span = (position, position + len(token))
        tokens.append(span)
        position = span[1] + 1
        if tag.startswith("B-"):
            entities.append(Entity(*span, rename(tag[2:], types, where)))
        elif tag.startswith("I-"):
            entities[-1] = entities[-1]._replace(end=span[1])
    edges = sorted({0, *breaks, len(rows)})
    return Document(
        id=name,
        text=" ".join(token for token, _ in rows),
        entities=entities,
        tokens=tokens,
        sentences=list(zip(edges, edges[1:], strict=False)),
    )
