"""What a mix was made of, in figures and hashes that others can check."""

import gzip
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tqdm

from ..about import __version__

_VERSIONS = ("datasketch", "numpy", "tokenizers")


def describe_input(path: Path, files: Iterable[Path]) -> dict[str, Any]:
    """A file that was read, or all that were read of a folder.

    RETURNS (dict): "name", "bytes" and "sha256"; for a folder also "files", and the hash is
        that of the lines "HASH  NAME" of its files, in order, as sha256sum prints them.
    """
    listed = [(file, _sha256(file)) for file in tqdm.tqdm(files, "hashing", disable=None)]
    found: dict[str, Any] = {
        "name": path.name,
        "bytes": sum(file.stat().st_size for file, _ in listed),
    }
    if path.is_dir():
        lines = "".join(f"{digest}  {file.relative_to(path)}\n" for file, digest in listed)
        return {
            **found,
            "files": len(listed),
            "sha256": hashlib.sha256(lines.encode("utf8", "surrogateescape")).hexdigest(),
        }
    return {**found, "sha256": listed[0][1]}


def versions() -> dict[str, str]:
    """What the mix was made with."""
    return {
        "spacy_openmed": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONS},
    }


class GzipLines:
    """Writes lines to a gzip file whose bytes depend on nothing but the lines.

    (And on the version of zlib: ``describe`` has the hash of the text, too.)
    """

    def __init__(self, path: Path, file: gzip.GzipFile) -> None:
        self._path = path
        self._file = file
        self._sha256 = hashlib.sha256()
        self._lines = 0

    def write(self, line: str) -> None:
        """Write a line, given without its end."""
        data = f"{line}\n".encode()
        self._file.write(data)
        self._sha256.update(data)
        self._lines += 1

    def describe(self) -> dict[str, Any]:
        """The finished file: "lines", "bytes", "sha256", and "text_sha256" of what is in it."""
        return {
            "lines": self._lines,
            "bytes": self._path.stat().st_size,
            "sha256": _sha256(self._path),
            "text_sha256": self._sha256.hexdigest(),
        }


@contextmanager
def gzip_lines(path: Path) -> Iterator[GzipLines]:
    """Make a gzip file that names neither a time nor a file."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        yield GzipLines(path, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
