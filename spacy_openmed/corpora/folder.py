"""Where the files of a prepared corpus lie."""

import os
from pathlib import Path

from ..errors import OpenMedError

SPLITS = ("train", "dev", "test")


def default_folder() -> Path:
    """``OPENMED_CORPORA``, or where ``project.yml`` puts the corpora."""
    return Path(os.environ.get("OPENMED_CORPORA") or Path("assets", "corpora"))


def installed(folder: Path, dataset: str) -> bool:
    """Whether a folder has something of a dataset, under its own name."""
    return any(
        (base / f"{split}{suffix}").is_file()
        for base in (folder / "ner" / dataset, folder / dataset)
        for split in SPLITS
        for suffix in (".jsonl", ".conll")
    )


def corpus_file(folder: Path, dataset: str, split: str, suffix: str) -> Path:
    """The file of a split in a prepared corpus folder.

    folder (Path): Holds ``ner/<dataset>``, ``<dataset>``, or the files themselves.
    suffix (str): ".jsonl" or ".conll".
    RAISES (OpenMedError): Not there; lists what was tried.
    """
    tried = [
        base / f"{split}{suffix}" for base in (folder / "ner" / dataset, folder / dataset, folder)
    ]
    for path in tried:
        if path.is_file():
            return path
    raise OpenMedError(
        f"No {split}{suffix} of '{dataset}'. Tried: {', '.join(map(str, tried))}. "
        f"Point --corpus at the folder with the prepared corpora."
    )
