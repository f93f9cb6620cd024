"""Lines of a text file that may have been through other programs."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...errors import OpenMedError

_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def numbered_lines(path: Path, escaped: bool = False) -> Iterator[tuple[str, str]]:
    """Read a UTF-8 file, with or without a byte order mark, LF or CRLF.

    escaped (bool): Yield a line that is not UTF-8, too, with surrogates for the wrong bytes, so
        that the lines after it can be read; ``check_line`` then tells it from others.
    YIELDS (tuple[str, str]): File and line number for messages; the line without its end.
    RAISES (OpenMedError): Names the line that is not UTF-8, or what the file is instead of
        text.
    """
    check_text(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
            if not escaped:
                check_line(text, where)
            yield where, text.rstrip("\r\n")


def check_line(line: str, where: str) -> None:
    """See that a line was UTF-8.

    line (str): As ``numbered_lines`` yields it.
    RAISES (OpenMedError): It was not; names the place.
    """
    # Nothing in UTF-8 becomes a surrogate, so these are wrong bytes.
    try:
        line.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as error:
        raise OpenMedError(f"{where}: not UTF-8 ({error}). Convert the file.") from error


def check_text(path: Path) -> None:
    """See that a file is there and is text.

    RAISES (OpenMedError): No such file, or an archive or UTF-16 where text was expected.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise OpenMedError(f"{path}: cannot be read ({error.strerror}).") from error
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            raise OpenMedError(f"{path}, line 1: {name} where UTF-8 text was expected.")


def skip_mark(file: BinaryIO) -> int:
    """Go to where the text of a file begins, after a byte order mark if it has one.

    RETURNS (int): That place.
    """
    file.seek(0)
    start = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
    file.seek(start)
    return start
