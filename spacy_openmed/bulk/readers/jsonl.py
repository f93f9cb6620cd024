"""JSONL: an object with the text in one of its fields a line."""

import json
from collections.abc import Iterator
from functools import partial

from ...passages.inputs import text_lines
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from . import lines, with_skipped
from .fields import document

count = lines.count


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read lines, blank ones left out.

    YIELDS (Document | Skipped): A line without id is named by file and number.
    """
    for line in with_skipped(source, partial(text_lines, source.path)):
        if isinstance(line, Skipped):
            yield line
        elif line[1].strip():
            yield _row(line[1], options, source.name, int(line[0].rpartition(" ")[2]))


def _row(line: str, options: Options, name: str, number: int) -> Row:
    try:
        row = json.loads(line)
    # Besides what is no JSON, numbers of more digits than Python takes.
    except (ValueError, RecursionError) as error:
        return Skipped(f"{name}:{number}", f"not JSON ({error})")
    if not isinstance(row, dict):
        return Skipped(f"{name}:{number}", "no JSON object")
    return document(row, options, name, number)
