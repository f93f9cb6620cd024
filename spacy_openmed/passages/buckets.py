"""Sorting more lines than memory holds."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

# Two sets may be open at once, and macOS gives a process 256 files.
_COUNT = 100


class Buckets:
    """Lines on disk, given back in the order of their keys.

    Keys are hashes, so that the lines spread evenly over files by their first bits; only one
    file at a time is in memory: a hundredth of the text, with some 100 bytes a line.

    folder (Path): Where the files go; made. The caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[int, BinaryIO] = {}
        self._open = ExitStack()
        self._lines = 0

    def __enter__(self) -> "Buckets":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def __len__(self) -> int:
        return self._lines

    def add(self, key: bytes, *fields: str) -> None:
        """Add a line.

        key (bytes): A hash.
        fields (str): Without tabs and line ends.
        """
        bucket = key[0] * _COUNT // 256
        if bucket not in self._files:
            file = self._path(bucket).open("wb")
            self._files[bucket] = self._open.enter_context(file)
        line = "\t".join((key.hex(), *fields)) + "\n"
        self._files[bucket].write(line.encode("utf8"))
        self._lines += 1

    def in_order(self) -> Iterator[list[str]]:
        """All lines, by key and then by their other fields; no more can be added.

        YIELDS (list[str]): The key in hexadecimal, and the fields.
        """
        self._open.close()
        for bucket in sorted(self._files):
            path = self._path(bucket)
            with path.open("rb") as file:
                lines = sorted(file)
            path.unlink()
            for line in lines:
                yield line.decode("utf8").rstrip("\n").split("\t")

    def _path(self, bucket: int) -> Path:
        return self._folder / str(bucket)
