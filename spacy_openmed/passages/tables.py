"""Tables as databases export them: quoted fields that hold delimiters and line ends."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..corpora.problems import OnError
from ..errors import OpenMedError
from .inputs import byte_lines, check_characters


def rows(
    path: Path, delimiter: str, wanted: Sequence[Sequence[str]], on_error: OnError
) -> Iterator[tuple[str, list[str]]]:
    """Rows of a table with a header, one at a time.

    A field of more than 131,072 characters (the csv module's limit) is an error: it means
    that a quotation mark is missing and the rest of the file was taken for one field.

    wanted (Sequence[Sequence[str]]): The columns to return, each with the names it may have
        (in lower case; letter case is ignored).
    on_error (OnError): Called for a row that is wrong, which is then left out.
    YIELDS (tuple[str, list[str]]): File and line number, and the wanted fields.
    RAISES (OpenMedError): A wanted column is missing.
    """
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
    except csv.Error as error:
        raise OpenMedError(f"{path}, line 1: no header ({error}).") from error
    places = [next((header.index(n) for n in names if n in header), -1) for names in wanted]
    if -1 in places:
        missing = ", ".join(" or ".join(wanted[i]) for i, at in enumerate(places) if at < 0)
        raise OpenMedError(
            f"{path}, line 1: no column {missing} among {', '.join(header)[:200]!r}, "
            f"read as fields between {delimiter!r}."
        )
    while True:
        start = reader.line_num + 1
        where = f"{path}, line {start}"
        try:
            row = next(reader, None)
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(header):
                raise OpenMedError(f"{where}: {len(row)} fields instead of {len(header)}.")
            fields = [check_characters(row[at], where) for at in places]
        except csv.Error as error:
            on_error(OpenMedError(f"{where}: {error} (up to line {reader.line_num})."))
        except OpenMedError as error:
            on_error(error)
        else:
            yield where, fields


def _lines(path: Path) -> Iterator[str]:
    for number, line in byte_lines(path):
        # A byte that is not UTF-8 becomes half a surrogate pair, which check_characters
        # finds: an error raised here would end the reader, and the file with it.
        yield line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
