"""Plain text: one passage a line, as ``spacy openmed dapt`` reads it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..corpora.problems import OnError, stop
from .inputs import each_file, text_lines
from .records import Record

SOURCE = "text"
NAMES = (".txt",)


def read(paths: Iterable[Path], on_error: OnError = stop) -> Iterator[Record]:
    """Read lines, blank ones left out.

    paths (Iterable[Path]): The files, plain or gzip.
    on_error (OnError): Called with what is wrong with a line, which is then left out.
    YIELDS (Record): Its id is the name of the file and the number of the line.
    RAISES (OpenMedError): Names file, line and reason.
    """
    yield from each_file(paths, lambda path: _file(path, on_error), on_error)


def _file(path: Path, on_error: OnError) -> Iterator[Record]:
    for where, line in text_lines(path, on_error):
        if line.strip():
            yield Record(SOURCE, f"{path.name}:{where.rpartition(' ')[2]}", line)
