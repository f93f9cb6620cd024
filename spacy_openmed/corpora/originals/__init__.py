"""Original releases of the 12 datasets, as they are downloaded, to documents.

A module for each kind of original says what is expected where. In general: one folder holds
what the registry names as sources of a dataset, files and folders with the names they have
there, in whatever folders, unpacked or still in their archives (see ``sources``).
"""

import importlib
from pathlib import Path

from .. import registry
from ..problems import OnError, stop
from .sources import opened
from .splits import Split

__all__ = ["Split", "convert"]

_MODULES = {
    "bc4chemd": "chemdner",
    "bc5cdr-chem": "abstracts",
    "bc5cdr-disease": "abstracts",
    "ncbi": "abstracts",
    "jnlpba": "standoff",
    "linnaeus": "standoff",
    "s800": "standoff",
    "bc2gm": "standoff",
    "anatem": "standoff",
    "bionlp13cg": "standoff",
    "cll": "cll",
    "fsu": "mmax",
}


def convert(dataset: str, folder: Path, on_error: OnError = stop) -> dict[str, Split]:
    """Read the originals of a dataset.

    dataset (str): One of the 12 ids.
    folder (Path): With what was downloaded. Nothing is written into it.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    RETURNS (dict[str, Split]): "train", "dev" and "test", in memory.
    RAISES (OpenMedError): Names what is missing and where to get it, or file, line and
        reason.
    """
    sources = registry.dataset(dataset).sources
    module = importlib.import_module(f".{_MODULES[dataset]}", __name__)
    with opened(folder, " and ".join(map(str, sources)), on_error) as (found, report):
        splits: dict[str, Split] = module.convert(dataset, found, report)
        return splits
