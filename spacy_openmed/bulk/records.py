"""What goes through a run: documents, rows that are skipped, entities, and parts of them."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..corpora.documents import Document
from .options import PART_CHARACTERS, PART_DOCUMENTS


class Skipped(NamedTuple):
    """A row, or the rest of a file, that was not annotated.

    where (str): File and place in it.
    reason (str): What was wrong.
    """

    where: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without what differs from row to row, to count by."""
        beginning = re.split(r" \(|: ", self.reason, maxsplit=1)[0].rstrip(".")
        return re.sub(r"(?<!-)\b\d+", "N", beginning)


class Found(NamedTuple):
    """An entity, and which of the adapters found it.

    start, end (int): Character offsets, end exclusive.
    label (str): E.g. "DISEASE".
    score (float): Probability in [0, 1], four decimals.
    dataset (str): Of the adapter.
    """

    start: int
    end: int
    label: str
    score: float
    dataset: str


Row = Document | Skipped


@dataclass
class Part:
    """Consecutive rows of a source.

    source, number (int): Which source, and which part of it, counted from 0.
    documents (list[Document]): Those to annotate; their entities are not used.
    skipped (list[Skipped]): Those that cannot be.
    last (bool): The source ends with it.
    """

    source: int
    number: int
    documents: list[Document] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    last: bool = False

    def to_bytes(self) -> bytes:
        """JSON, for another process."""
        rows = [[d.id, d.text, d.tokens, d.sentences, d.passages] for d in self.documents]
        return json.dumps([self.source, self.number, rows, self.skipped, self.last]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Part":
        source, number, rows, skipped, last = json.loads(data)
        documents = [
            Document(
                identifier,
                text,
                [],
                tokens=_ranges(tokens),
                sentences=_ranges(sentences),
                passages=[(start, end, name) for start, end, name in passages],
            )
            for identifier, text, tokens, sentences, passages in rows
        ]
        return cls(source, number, documents, [Skipped(*one) for one in skipped], last)


def _ranges(pairs: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in pairs]


def parts(
    rows: Iterable[Row],
    source: int,
    size: int = PART_DOCUMENTS,
    characters: int = PART_CHARACTERS,
) -> Iterator[Part]:
    """Cut the rows of a source into parts, always in the same way.

    size (int): The largest number of rows of a part.
    characters (int): A part ends with the document that brings its text to so many.
    YIELDS (Part): At least one.
    """
    part = Part(source, 0)
    read = 0
    for row in rows:
        if read >= characters or len(part.documents) + len(part.skipped) >= size:
            yield part
            part = Part(source, part.number + 1)
            read = 0
        if isinstance(row, Skipped):
            part.skipped.append(row)
        else:
            part.documents.append(row)
            read += len(row.text)
    part.last = True
    yield part
