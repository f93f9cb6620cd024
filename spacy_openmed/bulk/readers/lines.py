"""Text: a document a line."""

from collections.abc import Iterator
from functools import partial

from ...corpora.documents import Document
from ...passages.inputs import byte_lines, text_lines
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from . import with_skipped


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read lines, blank ones left out.

    YIELDS (Document | Skipped): Ids are file and number of the line.
    """
    for line in with_skipped(source, partial(text_lines, source.path)):
        if isinstance(line, Skipped):
            yield line
        elif line[1].strip():
            where, text = line
            yield Document(f"{source.name}:{where.rpartition(' ')[2]}", text, [])


def count(source: Source) -> int:
    return sum(1 for _, line in byte_lines(source.path) if line.strip())
