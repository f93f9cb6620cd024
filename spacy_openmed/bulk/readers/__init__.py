"""Readers, one module a format.

Each module has ``read(source, options)``, which yields the rows of a source one at a time,
documents and those that are skipped, and ``count(source)``, about how many there are.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...corpora.problems import OnError
from ...errors import OpenMedError
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source

Item = TypeVar("Item")


def read(source: Source, options: Options) -> Iterator[Row]:
    """The rows of a source, in order.

    YIELDS (Document | Skipped): What makes the rest of a file unreadable is skipped, too.
    """
    rows: Iterator[Row] = _module(source).read(source, options)
    yield from rows


def count(source: Source) -> int:
    """About how many rows a source has; reading it takes no longer than this.

    RAISES (OpenMedError, OSError): It cannot be read.
    """
    number: int = _module(source).count(source)
    return number


def _module(source: Source) -> Any:
    return importlib.import_module(f".{source.format}", __name__)


def with_skipped(
    source: Source, read: Callable[[OnError], Iterator[Item]]
) -> Iterator[Item | Skipped]:
    """What a reader of the corpora yields, and what it tells its ``on_error``, in order.

    read (Callable): Takes ``on_error`` and yields.
    """
    skipped: list[Skipped] = []

    def note(error: OpenMedError) -> None:
        skipped.append(_skipped(source, error))

    try:
        for item in read(note):
            yield from skipped
            skipped.clear()
            yield item
    except OpenMedError as error:
        note(error)
    yield from skipped


def _skipped(source: Source, error: OpenMedError) -> Skipped:
    """Messages begin with the path, and then the place in the file."""
    message = str(error).removeprefix(str(source.path))
    place, _, reason = message.partition(": ")
    return Skipped(f"{source.name}{place}", reason or message)
