"""Where the files of a prepared corpus lie."""

import os
from pathlib import Path

from ..errors import OpenMedError
from . import registry
from .documents import Document
from .formats import jsonl

SPLITS = ("train", "dev", "test")


def default_folder() -> Path:
    """``OPENMED_CORPORA``, or where ``project.yml`` puts the corpora."""
    return Path(os.environ.get("OPENMED_CORPORA") or Path("assets", "corpora"))


def installed(folder: Path, dataset: str) -> bool:
    """Whether a folder has something of a dataset, under its own name."""
    return any(
        path.is_file()
        for split in SPLITS
        for suffix in (".jsonl", ".conll")
        for path in _under_its_name(folder, dataset, split, suffix)
    )


def corpus_file(folder: Path, dataset: str, split: str, suffix: str) -> Path:
    """The file of a split in a prepared corpus folder.

    folder (Path): Holds ``ner/<dataset>``, ``<dataset>``, or the files themselves.
    suffix (str): ".jsonl" or ".conll".
    RAISES (OpenMedError): Not there; lists what was tried.
    """
    tried = _candidates(folder, dataset, split, suffix)
    for path in tried:
        if path.is_file():
            return path
    raise OpenMedError(
        f"No {split}{suffix} of '{dataset}'. Tried: {', '.join(map(str, tried))}. "
        f"Point --corpus at the folder with the prepared corpora."
    )


def corpus_file_or_none(folder: Path, dataset: str, split: str, suffix: str) -> Path | None:
    """As ``corpus_file``, but None if there is no such file."""
    candidates = _candidates(folder, dataset, split, suffix)
    return next((path for path in candidates if path.is_file()), None)


def _candidates(folder: Path, dataset: str, split: str, suffix: str) -> list[Path]:
    return [*_under_its_name(folder, dataset, split, suffix), folder / f"{split}{suffix}"]


def _under_its_name(folder: Path, dataset: str, split: str, suffix: str) -> list[Path]:
    return [base / dataset / f"{split}{suffix}" for base in (folder / "ner", folder)]


def is_there(folder: Path, dataset: str, split: str) -> bool:
    """Whether ``read_split`` would find a split, under the name of its dataset."""
    found = any(path.is_file() for path in _under_its_name(folder, dataset, split, ".jsonl"))
    return found and dataset in registry.with_demos()


def read_split(folder: Path | None, dataset: str, split: str) -> list[Document]:
    """The raw form of one split, with the labels that users see.

    folder (Path | None): See ``corpus_file``; None is the default folder.
    RAISES (OpenMedError): Unknown dataset, no such file, or what is wrong in it.
    """
    types = registry.dataset(dataset).types
    path = corpus_file(folder or default_folder(), dataset, split, ".jsonl")
    return list(jsonl.read(path, types))
