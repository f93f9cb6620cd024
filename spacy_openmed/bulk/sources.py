"""The files of an input, in the order in which they are read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..passages.inputs import expand
from .options import Options

SUFFIXES = {
    "text": (".txt",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
    "pubmed": (".xml",),
    "docbin": (".spacy",),
}
# Without a suffix of its own: --lines.
_LINES = "lines"


@dataclass(frozen=True)
class Source:
    """What is read from beginning to end by one process.

    format (str): Name of the reader.
    paths (tuple[Path, ...]): One file; of documents that are files themselves, some.
    names (tuple[str, ...]): Their names in the input, for ids and messages.
    """

    format: str
    paths: tuple[Path, ...]
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def name(self) -> str:
        return self.names[0]


def find(options: Options) -> list[Source]:
    """The sources of a run, by the names of their files.

    RAISES (OpenMedError): No such file, no known format, or several in a folder.
    """
    root = options.input
    format_name = _format(options)
    suffixes = SUFFIXES["text" if format_name == _LINES else format_name]
    files = expand([root], suffixes)
    names = [_name(path, root) for path in files]
    # Of documents that are files a part is a source, so that none is opened to be passed over.
    step = options.part_documents if format_name == "text" else 1
    return [
        Source(format_name, tuple(files[at : at + step]), tuple(names[at : at + step]))
        for at in range(0, len(files), step)
    ]


def facts(sources: list[Source]) -> dict[str, Any]:
    """What tells whether an input is still the same: names, sizes and times of its files."""
    digest = hashlib.sha256()
    size = number = 0
    for source in sources:
        for path, name in zip(source.paths, source.names, strict=True):
            stat = path.stat()
            digest.update(f"{name}\n{stat.st_size}\n{stat.st_mtime_ns}\n".encode())
            size += stat.st_size
            number += 1
    return {"files": number, "bytes": size, "names, sizes and times": digest.hexdigest()}


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix() if root.is_dir() else path.name
    # A name that is not UTF-8 is one of surrogates, which no output can hold.
    return name.encode(errors="replace").decode()


def _format(options: Options) -> str:
    name = options.input_format or _guess(options.input)
    if name not in SUFFIXES:
        raise OpenMedError(f"Unknown input format '{name}'. Known: {', '.join(SUFFIXES)}.")
    if options.lines and name != "text":
        raise OpenMedError(f"--lines is for text: {options.input} is {name}.")
    return _LINES if options.lines else name


def _guess(path: Path) -> str:
    if not path.exists():
        raise OpenMedError(f"{path}: no such file or folder.")
    files = path.rglob("*") if path.is_dir() else [path]
    found = {name for file in files if (name := _of_suffix(file)) is not None}
    if len(found) == 1:
        return found.pop()
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    what = f"files of several formats ({', '.join(sorted(found))})" if found else "no known format"
    raise OpenMedError(f"{path}: {what}. Give --input-format; by their names are known: {known}.")


def _of_suffix(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    if name.startswith("."):
        return None
    return next((form for form, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)
