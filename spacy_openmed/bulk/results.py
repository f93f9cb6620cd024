"""What came of a part, and of a run."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .records import Skipped

_HEADER = (
    *("source", "number", "last", "documents", "words", "entities", "skipped"),
    *("begun", "ended"),
)
# Of each kind.
_NAMED = 3


@dataclass(frozen=True)
class Result:
    """An annotated part.

    source, number, last: As in ``Part``.
    documents, words (int): Annotated.
    entities (dict[str, int]): How many, by "dataset label".
    skipped (list[Skipped]): Rows that are not in the output.
    payload (bytes): Of the writer; empty where only the rest was read.
    begun, ended (float): When it was annotated, in seconds since 1970.
    """

    source: int
    number: int
    last: bool
    documents: int
    words: int
    entities: dict[str, int]
    skipped: list[Skipped]
    payload: bytes = b""
    begun: float = 0.0
    ended: float = 0.0

    def to_bytes(self) -> bytes:
        """A line of JSON, then the payload."""
        header: dict[str, Any] = {name: getattr(self, name) for name in _HEADER}
        header["bytes"] = len(self.payload)
        return json.dumps(header).encode() + b"\n" + self.payload

    @classmethod
    def from_bytes(cls, data: bytes) -> "Result":
        line, _, payload = data.partition(b"\n")
        return replace(cls.from_header(line)[0], payload=payload)

    @classmethod
    def from_header(cls, line: bytes) -> tuple["Result", int]:
        """RETURNS (tuple[Result, int]): Without payload, and the size of that.

        RAISES (ValueError, KeyError, TypeError): Not such a line.
        """
        header = json.loads(line)
        header["skipped"] = [Skipped(*one) for one in header["skipped"]]
        return cls(**{name: header[name] for name in _HEADER}), int(header["bytes"])


@dataclass
class Summary:
    """What a run did, those parts included that were there before.

    documents, words (int): Annotated.
    entities (Counter[str]): By "dataset label".
    reasons (Counter[str]): Rows skipped, by kind.
    named (dict[str, list[Skipped]]): The first of each kind.
    seconds (dict[str, float]): What took how long, of this process: "start" (until the first
        part is begun), "annotate" (until the last one is done) and "join".
    """

    documents: int = 0
    words: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[Skipped]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        return self.reasons.total()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "documents": self.documents,
            "words": self.words,
            "entities": dict(sorted(self.entities.items())),
            "skipped": dict(sorted(self.reasons.items())),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    @property
    def rows(self) -> int:
        return self.documents + self.skipped

    def add(self, result: Result) -> None:
        self.documents += result.documents
        self.words += result.words
        self.entities.update(result.entities)
        self.skip(result.skipped)

    def skip(self, skipped: Iterable[Skipped]) -> None:
        for one in skipped:
            self.reasons[one.kind] += 1
            named = self.named.setdefault(one.kind, [])
            if len(named) < _NAMED:
                named.append(one)
