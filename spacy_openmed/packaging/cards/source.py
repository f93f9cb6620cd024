"""A file that figures of a card are taken from, and how the card names it."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import OpenMedError
from ...files import json_object


@dataclass(frozen=True)
class Source:
    """A file that figures are taken from. As a string it is a link to it, or its name.

    name (str): As the card calls it.
    link (str): Where a reader of the card finds it; "" if nobody said.
    sha256 (str): Of the file.
    content (dict): What is in it; empty for what is no JSON object.
    """

    name: str
    link: str = ""
    sha256: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def is_online(self) -> bool:
        """Whether the link is one that works wherever the card is."""
        return self.link.startswith(("http://", "https://"))

    def __str__(self) -> str:
        return f"[`{self.name}`]({self.link})" if self.link else f"`{self.name}`"


def cited(sources: Iterable[Source]) -> str:
    """Where the figures before are from, each file once."""
    return f"From {', '.join(dict.fromkeys(map(str, sources)))}."


class Place:
    """Where the files of a card are, for its author and for its readers.

    folder (Path): The folder of the result files.
    base (str): The same for readers: a URL, or a path relative to the card; "" if it is not
        known, and files are named only.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self._folder = folder.resolve()
        self._base = base.rstrip("/")

    def read(self, path: Path) -> Source:
        """Read a JSON object.

        RAISES (OpenMedError): It cannot be read, or is no JSON object.
        """
        data = _bytes(path)
        return self._source(path, data, json_object(data, path, "Run the command that writes it."))

    def other(self, path: Path) -> Source:
        """A file of another kind, of which only the name and the hash are needed.

        RAISES (OpenMedError): It cannot be read.
        """
        return self._source(path, _bytes(path), {})

    def name(self, path: Path) -> str:
        """What the card calls a file: its place in the run, and nothing of this machine."""
        relative = self._relative(path)
        return path.name if relative is None else relative.removeprefix("../")

    def _source(self, path: Path, data: bytes, content: dict[str, Any]) -> Source:
        relative = self._relative(path)
        link = f"{self._base}/{relative}" if self._base and relative is not None else ""
        return Source(self.name(path), link, hashlib.sha256(data).hexdigest(), content)

    def _relative(self, path: Path) -> str | None:
        """The way from the results to a file of the same run; None for any other file."""
        found = Path(os.path.relpath(path.resolve(), self._folder)).as_posix()
        return None if found.startswith("../../") or Path(found).is_absolute() else found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpenMedError(f"{path} cannot be read ({error.strerror}).") from error
