"""The files of a source: found in folders, opened plain or gzip, read line by line."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ..corpora.formats.lines import check_text
from ..corpora.problems import OnError
from ..errors import OpenMedError
from .records import Record

# How Python says that a compressed file, or the disk under it, is damaged.
DAMAGE = (EOFError, zlib.error, OSError)
_GZIP = b"\x1f\x8b"


def expand(paths: Iterable[Path], names: Sequence[str]) -> list[Path]:
    """Files as they are, and of folders the files in them.

    names (Sequence[str]): What the name of a file in a folder must end with, ".gz" left out.
    RETURNS (list[Path]): Of a folder in the order of their paths.
    RAISES (OpenMedError): No such file, or a folder without any.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if _matches(p, names) and p.is_file()]
            if not inside:
                raise OpenMedError(f"{path}: no file named …{' or …'.join(names)} (or .gz) in it.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise OpenMedError(f"{path}: no such file or folder.")
    return found


def _matches(path: Path, names: Sequence[str]) -> bool:
    name = path.name.lower()
    return not name.startswith(".") and name.removesuffix(".gz").endswith(tuple(names))


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if it is gzip by its first bytes, whatever its name.

    RAISES (OpenMedError): Not there, or an archive, UTF-16 or the like.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP)) == _GZIP
    except OSError as error:
        raise OpenMedError(f"{path}: cannot be read ({error.strerror}).") from error
    if not compressed:
        check_text(path)
    with gzip.open(path) if compressed else path.open("rb") as file:
        yield cast(BinaryIO, file)


def damaged(where: str, error: BaseException) -> OpenMedError:
    """What to tell the user when reading a file fails half way."""
    return OpenMedError(f"{where}: truncated or damaged file ({error}). Download it again.")


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a file, plain or gzip.

    YIELDS (tuple[int, bytes]): Number from 1, and the line with its end.
    RAISES (OpenMedError): Names the line where the file breaks off.
    """
    number = 0
    with open_bytes(path) as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line
        except DAMAGE as error:
            raise damaged(f"{path}, line {number + 1}", error) from error


def text_lines(path: Path, on_error: OnError) -> Iterator[tuple[str, str]]:
    """Lines of UTF-8 text, with or without a byte order mark, LF or CRLF.

    on_error (OnError): Called for a line that is not UTF-8, which is then left out.
    YIELDS (tuple[str, str]): File and line number for messages; the line without its end.
    """
    for number, line in byte_lines(path):
        where = f"{path}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            on_error(OpenMedError(f"{where}: not UTF-8 ({error})."))
        else:
            yield where, text.rstrip("\r\n")


def each_file(
    paths: Iterable[Path], read: Callable[[Path], Iterator[Record]], on_error: OnError
) -> Iterator[Record]:
    """Read files one after the other.

    on_error (OnError): Called with what makes the rest of a file unreadable, too; when it
        returns, the next file follows.
    """
    for path in paths:
        try:
            yield from read(path)
        except OpenMedError as error:
            on_error(error)


def check_characters(text: str, where: str) -> str:
    """The text, if it can be written as UTF-8.

    RAISES (OpenMedError): It has half a surrogate pair, which JSON can escape and which
        stands for a byte that was not UTF-8 in a table.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OpenMedError(f"{where}: not UTF-8, or half a surrogate pair ({error}).") from error
    return text
