"""The folder with the downloaded originals of a dataset, unpacked or not."""

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ...errors import OpenMedError
from ..problems import OnError, stop

_BROKEN = (
    EOFError,
    OSError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Sources:
    """Finds originals by the names they have where they come from.

    A file or folder may lie anywhere in the folder. Archives (.zip, .tar, .tar.gz, .tgz,
    .tar.bz2, .tar.xz) are read as folders that are named like them, without the suffix; they
    are only opened for what does not lie there unpacked.

    folder (Path): With the downloads of one dataset.
    where (str): Where to get them, for messages.
    scratch (Path): An empty folder that is removed afterwards.
    """

    def __init__(self, folder: Path, where: str, scratch: Path) -> None:
        self.folder = folder
        self._where = where
        self._scratch = scratch
        self._unpacked = scratch / "unpacked"
        self._plain = _below(folder)
        self._packed: set[tuple[str, ...]] | None = None
        self._names = {str(self._unpacked): str(folder)}

    def find(self, name: str) -> Path:
        """A file or folder by the end of its path; the one nearest to the top.

        name (str): "train.tsv", "standoff/train".
        RAISES (OpenMedError): Not there; or twice, equally near and not the same.
        """
        found = self.find_all(name)
        if not found:
            raise OpenMedError(
                f"{self.folder}: no '{name}', neither as it is nor in an archive. Get it from "
                f"{self._where}, and put it there under its own name."
            )
        top = min(len(path.parts) for path in found)
        first, *others = (path for path in found if len(path.parts) == top)
        for other in others:
            if first.is_dir() or first.read_bytes() != other.read_bytes():
                raise OpenMedError(
                    f"{self.folder}: '{name}' is there as {first} and as {other}. Remove one."
                )
        return first

    def find_all(self, name: str) -> list[Path]:
        """All files and folders by the end of their paths, sorted."""
        wanted = PurePosixPath(name).parts
        found = _ending_with(wanted, self._plain, self.folder)
        if not found:
            if self._packed is None:
                self._unpack()
                self._packed = _below(self._unpacked)
            found = _ending_with(wanted, self._packed, self._unpacked)
        return sorted(found)

    def mended(self, path: Path, content: str) -> Path:
        """A copy of an original, with known mistakes mended line by line.

        content (str): Line numbers are those of the original; messages name that, too.
        """
        copy = self._scratch / f"mended-{len(self._names)}" / path.name
        copy.parent.mkdir()
        copy.write_text(content, encoding="utf8")
        self._names[str(copy)] = self.named(path)
        return copy

    def named(self, message: object) -> str:
        """A path or message with the names that the user knows."""
        text = str(message)
        # Latest first: a copy's own path begins like that of the folder of copies.
        for here, there in reversed(self._names.items()):
            text = text.replace(here, there)
        return text

    def _unpack(self) -> None:
        self._unpacked.mkdir()
        for inside, archive in _unpack_all(self.folder, self._unpacked):
            self._names[str(inside)] = self.named(archive)


@contextmanager
def opened(folder: Path, where: str, on_error: OnError = stop) -> Iterator[tuple[Sources, OnError]]:
    """Look for originals in a folder.

    where (str): Where to get them, for messages.
    YIELDS (tuple[Sources, OnError]): And what to report errors to in place of ``on_error``,
        so that messages have names that the user knows.
    RAISES (OpenMedError): No such folder. Errors from inside get these names, too.
    """
    if not folder.is_dir():
        raise OpenMedError(f"{folder}: no such folder. It should hold what is at {where}.")
    with tempfile.TemporaryDirectory(prefix="openmed-originals-") as scratch:
        sources = Sources(folder, where, Path(scratch))
        try:
            yield sources, lambda error: on_error(OpenMedError(sources.named(error)))
        except OpenMedError as error:
            raise OpenMedError(sources.named(error)) from error


def _below(folder: Path) -> set[tuple[str, ...]]:
    """Files below a folder, and the folders that they are in, as parts of paths."""
    found: set[tuple[str, ...]] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            parts = path.relative_to(folder).parts
            found.update(parts[:n] for n in range(1, len(parts) + 1))
    return found


def _ending_with(
    wanted: tuple[str, ...], candidates: Iterable[tuple[str, ...]], folder: Path
) -> list[Path]:
    # The folder's own name counts, so that "s800/train.tsv" is found in a folder "s800".
    return [
        folder.joinpath(*parts)
        for parts in candidates
        if (folder.name, *parts)[-len(wanted) :] == wanted
    ]


def _unpack_all(folder: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Unpack the archives of a folder, and archives in them.

    YIELDS (tuple[Path, Path]): Folder and the archive that was unpacked into it.
    """
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        suffix = next((s for s in _UNPACKERS if path.name.lower().endswith(s)), None)
        if suffix is None:
            continue
        inside = target / path.relative_to(folder).with_name(path.name[: -len(suffix)])
        try:
            inside.mkdir(parents=True, exist_ok=True)
            _UNPACKERS[suffix](path, inside)
        except _BROKEN as error:
            reason = str(error).partition("\n")[0]
            raise OpenMedError(
                f"{path}: cannot be unpacked ({reason}). If it is broken, download it again."
            ) from error
        yield inside, path
        yield from _unpack_all(inside, inside)


def _unzip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            place = None if member.is_dir() else _place(member.filename, target)
            if place:
                with archive.open(member) as source, place.open("wb") as file:
                    shutil.copyfileobj(source, file)


def _untar(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            # Links and devices have no business in a corpus.
            place = _place(member.name, target) if member.isfile() else None
            source = archive.extractfile(member)
            if place and source:
                with source, place.open("wb") as file:
                    shutil.copyfileobj(source, file)


def _place(name: str, target: Path) -> Path | None:
    """Where to put a member of an archive; None if it is nothing of the archive's own."""
    inside = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in inside.parts if part != "."]
    if not parts or ".." in parts or inside.is_absolute():
        return None
    # What macOS adds to archives has the names of real files.
    if parts[-1].startswith("._") or "__MACOSX" in parts:
        return None
    place = target.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


_UNPACKERS = {
    ".zip": _unzip,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), _untar),
}
