"""The 12 datasets, as data (``registry.json``)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import OpenMedError

_FILE = Path(__file__).parent / "registry.json"


@dataclass(frozen=True)
class Dataset:
    """One of the 12 corpora of arXiv 2508.01630.

    id (str): As users name it, e.g. "bc5cdr-chem".
    types (Mapping[str, str]): The corpus's entity types to the labels users see.
    licence (str): As stated by the source.
    user_data (str): Where the user gets it, if it may not be handed on; else "".
    """

    id: str
    types: Mapping[str, str]
    licence: str
    user_data: str = ""


@cache
def datasets() -> dict[str, Dataset]:
    """All datasets by id, in the paper's order."""
    data = json.loads(_FILE.read_text(encoding="utf8"))
    return {name: Dataset(id=name, **entry) for name, entry in data.items()}


def dataset(name: str) -> Dataset:
    """One dataset.

    RAISES (OpenMedError): Unknown id.
    """
    known = datasets()
    if name not in known:
        raise OpenMedError(f"Unknown dataset '{name}'. Known ids: {', '.join(known)}.")
    return known[name]
