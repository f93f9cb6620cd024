"""Documents that kill the process that annotates them.

Memory that the system runs out of, or a crash in a library, ends a process that can tell nobody.
So what it works on is noted where it outlives the process, and the next one goes on from there:

    the part ─▶ each document, as a trial ─▶ the part without those that kill ─▶ each document

Only a part that kills goes further than the first step. A document that has killed twice on its
own is left out, counted and named. Twice, because a process may as well be ended from outside,
whatever it is at. For the same reason a trial only tells whether a document kills, and the part is
annotated as a whole after it: then what was ended from outside leaves the same bytes as what was
not. On the CPUs we know a row of the network does not depend on the batch that it is in, on GPUs
the products of a batch of other size may be rounded in another way. So there the last digit of a
score may differ from that of an unbroken run: of the neighbours of a document that is left out,
and where the last step is needed, as when memory has no room for a whole part.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..files import json_or_none, write_json
from .annotator import Annotator
from .records import Part, Skipped
from .results import Result
from .writers import Writer

DIED = "the process that annotated it died"
# The first step; the others are the numbers of documents, and then those that follow the last.
_WHOLE = -1
# Deaths at the same step, until the next one is taken.
_TIMES = 2


@dataclass
class Begun:
    """How far a part came.

    at (int): What was worked on last: -1 for the part as a whole, the number of a document that
        was tried, the number of documents for those together that are left, and one more for
        those one by one.
    times (int): Processes that began with that and did not come back.
    lost (list[int]): Documents that kill.
    """

    at: int = _WHOLE
    times: int = 0
    lost: list[int] = field(default_factory=list)


class Notes(Protocol):
    """What remembers where processes died."""

    def begin(self, source: int, number: int, documents: int) -> Begun:
        """Where to go on with a part.

        source, number (int): Which part.
        documents (int): How many it has.
        """

    def mark(self, source: int, number: int, at: int) -> None:
        """Note what is worked on from now on."""

    def release(self, source: int, number: int) -> None:
        """Note that the process is alive that stops working on a part."""

    def end(self, source: int, number: int) -> None:
        """Forget a part that is done."""


class Deaths:
    """Remembers where processes died.

    path (Path | None): A file that outlives this process; None where it outlives the others.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._parts: dict[tuple[int, int], Begun] = {}
        self._in_a_row = 0
        if path is not None:
            self._parts = _read(json_or_none(path) or {})

    def begin(self, source: int, number: int, documents: int) -> Begun:
        begun = self._parts.setdefault((source, number), Begun())
        if begun.times:
            self._in_a_row += 1
        if (begun.at == _WHOLE and begun.times) or begun.times >= _TIMES:
            if 0 <= begun.at < documents:
                begun.lost.append(begun.at)
            # There is no step after the last one.
            begun.at = min(begun.at + 1, documents + 1)
            begun.times = 0
        return begun

    def mark(self, source: int, number: int, at: int) -> None:
        begun = self._parts[source, number]
        if at != begun.at:
            self._in_a_row = 0
            begun.at, begun.times = at, 0
        begun.times += 1
        self._save()

    def release(self, source: int, number: int) -> None:
        begun = self._parts[source, number]
        begun.times = max(0, begun.times - 1)
        if begun == Begun():
            del self._parts[source, number]
        self._save()

    def end(self, source: int, number: int) -> None:
        self._in_a_row = 0
        del self._parts[source, number]
        self._save()

    def in_a_row(self) -> int:
        """How often processes died since one of them had done anything."""
        return self._in_a_row

    def _save(self) -> None:
        if self.path is None:
            return
        if self._parts:
            rows = [
                {"source": source, "number": number, **asdict(begun)}
                for (source, number), begun in self._parts.items()
            ]
            write_json(self.path, {"parts": rows})
        else:
            self.path.unlink(missing_ok=True)


def _read(content: Mapping[str, Any]) -> dict[tuple[int, int], Begun]:
    # The machine may have gone down while it was written: then the first step is taken again.
    with suppress(KeyError, TypeError):
        return {
            (row["source"], row["number"]): Begun(row["at"], row["times"], row["lost"])
            for row in content["parts"]
        }
    return {}


def annotate(annotator: Annotator, part: Part, writer: Writer, notes: Notes) -> Result:
    """Annotate a part, but for documents that kill.

    writer (Writer): Of the output.
    notes (Notes): What was noted by processes that died of it.
    """
    key = (part.source, part.number)
    documents = len(part.documents)
    begun = notes.begin(*key, documents)
    at = begun.at
    try:
        if at >= 0:
            for number in range(at, documents):
                notes.mark(*key, number)
                annotator.annotate(replace(part, documents=[part.documents[number]]), writer)
            at = max(at, documents)
        notes.mark(*key, at)
        result = annotator.annotate(_without(part, begun.lost), writer, together=at <= documents)
    except BaseException:
        notes.release(*key)
        raise
    notes.end(*key)
    return result


def _without(part: Part, lost: list[int]) -> Part:
    died = [Skipped(f"document '{part.documents[number].id}'", DIED) for number in lost]
    left = [one for number, one in enumerate(part.documents) if number not in lost]
    return replace(part, documents=left, skipped=[*part.skipped, *died])
