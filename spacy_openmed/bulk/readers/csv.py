"""CSV and TSV with a header."""

import csv
from collections.abc import Iterator
from functools import partial

from ...errors import OpenMedError
from ...passages.inputs import byte_lines
from ...passages.tables import rows
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from . import with_skipped
from .fields import document


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read rows; letter case in names of columns does not count.

    YIELDS (Document | Skipped): A row without id is named by file and line.
    """
    try:
        header = _header(source)
    except (OpenMedError, csv.Error) as error:
        yield Skipped(source.name, f"no header ({error})")
        return
    wanted = [options.text_field]
    if options.id_field.lower() in header:
        wanted.append(options.id_field)
    names = [[name.lower()] for name in wanted]
    for row in with_skipped(source, partial(rows, source.path, _delimiter(source), names)):
        if isinstance(row, Skipped):
            yield row
        else:
            where, fields = row
            line = int(where.rpartition(" ")[2])
            yield document(dict(zip(wanted, fields, strict=True)), options, source.name, line)


def count(source: Source) -> int:
    # A field may have line ends.
    return sum(1 for row in csv.reader(_lines(source), delimiter=_delimiter(source)) if row) - 1


def _delimiter(source: Source) -> str:
    return "\t" if source.path.name.removesuffix(".gz").lower().endswith(".tsv") else ","


def _header(source: Source) -> list[str]:
    first = next(csv.reader(_lines(source), delimiter=_delimiter(source)), [])
    return [name.strip().lower() for name in first]


def _lines(source: Source) -> Iterator[str]:
    for number, line in byte_lines(source.path):
        yield line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
