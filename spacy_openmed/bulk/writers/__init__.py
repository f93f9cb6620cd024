"""Writers, one module a format.

A worker turns a document into a piece and the pieces of a part into its payload; when all parts
are there, the payloads are joined to the output, one after the other.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...corpora.documents import Document
from ...errors import OpenMedError
from ..options import Options
from ..records import Found, Skipped


class Writer(Protocol):
    """A format to write."""

    def piece(self, document: Document, found: Sequence[Found]) -> Any:
        """What stands for a document.

        RAISES (OpenMedError): The format cannot hold it.
        """

    def payload(self, pieces: Sequence[Any]) -> bytes:
        """What is kept of a part; the same pieces give the same bytes."""

    def join(self, payloads: Iterator[bytes], target: Path) -> list[Skipped]:
        """Write the output, with a few payloads in memory.

        target (Path): Where nothing is yet, in a folder that is there; of the output's name.
        RETURNS (list[Skipped]): Documents that it has no room for.
        """


# Names like those of ``corpora.formats``, where these have the format.
SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "docbin": (".spacy",),
    "pubtator": (".pubtator", ".pubtator.txt"),
    "bioc": (".xml", ".json"),
    "brat": (),
}


def format_of(options: Options) -> str:
    """The name of the output's format.

    RAISES (OpenMedError): Unknown, or not to be told from the suffix.
    """
    name = options.output_format
    if name is None:
        end = options.output.name.lower()
        name = next((form for form, suffixes in SUFFIXES.items() if end.endswith(suffixes)), None)
    if name not in SUFFIXES:
        known = ", ".join(f"{form} ({' '.join(s) or 'a folder'})" for form, s in SUFFIXES.items())
        raise OpenMedError(
            f"{options.output}: "
            + (f"unknown output format '{name}'" if name else "its name tells no format")
            + f". Known: {known}. Give --output-format, or a name that ends so."
        )
    return name


def writer(name: str, target: Path) -> Writer:
    """The writer of a format.

    target (Path): The output: some formats differ by its name.
    RAISES (OpenMedError): The output cannot have that name.
    """
    made: Writer = importlib.import_module(f".{name}", __name__).writer(target)
    return made
