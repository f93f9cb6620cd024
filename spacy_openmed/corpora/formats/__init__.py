"""Readers and writers, one module a format.

Each module has ``read(path, types=None, on_error=stop)``, which yields documents one at a
time, and ``write(documents, path)``, which puts the whole file in place or none of it.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import OpenMedError
from ...tables import markdown
from ..detokenise import on_written_text
from ..documents import Document
from ..problems import OnError, stop
from .splits import check_one_split


@dataclass(frozen=True)
class Format:
    """A file format.

    name (str): As users name it.
    suffixes (tuple[str, ...]): File names that end so are of this format; none if it is a
        folder only.
    carries (frozenset[str]): What survives writing and reading: "text" (the very characters,
        so that offsets stay), "nested" (entities inside or across others), "concepts",
        "passages", "tokens", "sentences".
    about (str): One line.
    """

    name: str
    suffixes: tuple[str, ...]
    carries: frozenset[str]
    about: str


def _format(name: str, suffixes: str, carries: str, about: str) -> Format:
    return Format(name, tuple(suffixes.split()), frozenset(carries.split()), about)


FORMATS = {
    f.name: f
    for f in (
        _format("jsonl", ".jsonl .ndjson", "text nested concepts passages", "text with offsets"),
        _format("conll", ".conll .tsv .iob .bio", "tokens sentences", "a token and its tag a line"),
        _format("pubtator", ".pubtator .pubtator.txt", "text nested concepts passages", "PubTator"),
        _format("bioc", ".xml .json", "text nested concepts passages", "BioC XML or JSON"),
        _format("brat", ".ann .a1", "text nested concepts", "brat folder of .txt and .ann files"),
        _format(
            "docbin",
            ".spacy",
            "text nested concepts passages tokens sentences",
            "spaCy's .spacy file, or folder of them",
        ),
        _format("rows", ".parquet .arrow", "tokens", "Hugging Face datasets: tokens and ner_tags"),
    )
}


def table() -> str:
    """All formats as a Markdown table."""
    head = ["format", "names", "what it is", "carries"]
    rows = [
        [f.name, " ".join(f.suffixes) or "a folder", f.about, ", ".join(sorted(f.carries))]
        for f in FORMATS.values()
    ]
    return markdown(head, rows)


# What lies in the folders of a format.
_INSIDE = (
    ("brat", "*.ann"),
    ("brat", "*.a1"),
    ("docbin", "*.spacy"),
    ("rows", "state.json"),
    ("rows", "*.parquet"),
)


def guess(path: Path) -> Format:
    """The format of a file by its name, of a folder by what lies in it.

    RAISES (OpenMedError): No format has such names.
    """
    if path.is_dir():
        for name, pattern in _INSIDE:
            if any(path.rglob(pattern)):
                return FORMATS[name]
    for candidate in FORMATS.values():
        if path.name.lower().endswith(candidate.suffixes):
            return candidate
    raise OpenMedError(
        f"{path}: no format is known by this name. Give one of {', '.join(FORMATS)}, or rename "
        f"the file: {', '.join(s for f in FORMATS.values() for s in f.suffixes)}."
    )


def find(name: str) -> Format:
    """A format by its name.

    RAISES (OpenMedError): Unknown.
    """
    if name not in FORMATS:
        raise OpenMedError(f"Unknown format '{name}'. Known: {', '.join(FORMATS)}.")
    return FORMATS[name]


def read(
    path: Path,
    types: Mapping[str, str] | None = None,
    on_error: OnError = stop,
    name: str | None = None,
    detokenised: bool = False,
) -> Iterator[Document]:
    """Read a file of any format.

    path (Path): The file, or a folder of one split.
    types (Mapping[str, str] | None): Corpus types to user-facing labels; None keeps them.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    name (str | None): The format, if the file's name does not tell.
    detokenised (bool): Where there are tokens only, make a text of them as people write it
        (see ``detokenise``) instead of with a blank between any two.
    YIELDS (Document): One at a time.
    RAISES (OpenMedError): Names file, line and reason.
    """
    chosen = guess(path) if name is None else find(name)
    if chosen.name == "brat" and path.is_dir():
        # Not in the reader: published corpora have folders of splits that are no longer used.
        # By folders alone, as a document may be called "test1".
        check_one_split(path, (file.relative_to(path).parent for file in path.rglob("*")))
    module = importlib.import_module(f".{chosen.name}", __name__)
    documents = module.read(path, types, on_error)
    yield from map(on_written_text, documents) if detokenised else documents


def write(documents: Iterable[Document], path: Path, name: str | None = None) -> None:
    """Write a file of any format, whole or not at all.

    RAISES (OpenMedError): The format cannot hold what a document has.
    """
    chosen = guess(path) if name is None else find(name)
    importlib.import_module(f".{chosen.name}", __name__).write(documents, path)
