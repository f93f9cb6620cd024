"""The sources of text by name, and their texts as a streaming dataset."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..corpora.problems import OnError, stop
from ..errors import OpenMedError
from . import arxiv, clinicaltrials, mimic, plain, pubmed
from .inputs import expand
from .records import Record
from .settings import PassageSettings

if TYPE_CHECKING:
    from datasets import IterableDataset

_MODULES = {module.SOURCE: module for module in (pubmed, arxiv, mimic, clinicaltrials, plain)}
SOURCES = tuple(_MODULES)


def files(source: str, paths: Iterable[Path]) -> list[Path]:
    """The files of a source, folders searched for them.

    RAISES (OpenMedError): Unknown source, no such file, or nothing in a folder.
    """
    if source not in _MODULES:
        raise OpenMedError(f"Unknown source '{source}'. Known: {', '.join(SOURCES)}.")
    return expand(paths, _MODULES[source].NAMES)


def read(
    source: str, paths: Iterable[Path], settings: PassageSettings, on_error: OnError = stop
) -> Iterator[Record]:
    """Read the texts of a source, as its own module describes.

    RAISES (OpenMedError): Names file, line or record, and reason.
    """
    found = files(source, paths)
    if source == pubmed.SOURCE:
        yield from pubmed.read(found, settings.titles, on_error)
    elif source == arxiv.SOURCE:
        yield from arxiv.read(found, settings.arxiv_categories, settings.titles, on_error)
    elif source == mimic.SOURCE:
        yield from mimic.read(found, settings.mimic_placeholders, on_error)
    elif source == clinicaltrials.SOURCE:
        yield from clinicaltrials.read(found, on_error)
    else:
        yield from plain.read(found, on_error)


def stream(
    source: str, paths: Sequence[Path], settings: PassageSettings | None = None
) -> "IterableDataset":
    """The texts of a source as a Hugging Face dataset that is read as it is iterated over.

    It is never in memory as a whole, and nothing is cached on disk.

    RETURNS (IterableDataset): With columns source, id and text.
    RAISES (OpenMedError): On iteration; names file, line or record, and reason.
    """
    from datasets import Features, IterableDataset, Value

    return IterableDataset.from_generator(
        _rows,
        features=Features({name: Value("string") for name in Record._fields}),
        # A tuple, because datasets divides lists among its workers: a worker with some of
        # PubMed's files would not know what the others replace.
        gen_kwargs={
            "source": source,
            "paths": tuple(map(str, files(source, paths))),
            "settings": settings or PassageSettings(),
        },
    )


def _rows(
    source: str, paths: tuple[str, ...], settings: PassageSettings
) -> Iterator[dict[str, str]]:
    for record in read(source, map(Path, paths), settings):
        yield record._asdict()
