"""Text that models are measured on, which pre-training must not see."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..corpora.formats import jsonl
from ..corpora.shingles import shingles
from ..errors import OpenMedError
from . import plain

SPLITS = ("dev.jsonl", "test.jsonl")


def split_files(corpora: Path) -> list[Path]:
    """The dev and test splits of all corpora below a folder.

    RAISES (OpenMedError): There is none.
    """
    found = sorted(path for name in SPLITS for path in corpora.rglob(name))
    if not found:
        raise OpenMedError(f"{corpora}: no {' or '.join(SPLITS)} in it or in its folders.")
    return found


class HeldOut:
    """All runs of 13 words of held-out text, as hashes: 8 bytes a run.

    Runs of all documents count together. Texts of fewer words than a run cannot be found.

    paths (Iterable[Path]): Splits (``.jsonl``), or text with one passage a line.
    RAISES (OpenMedError): A file cannot be read, wholly.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._runs = np.empty(0, dtype=np.uint64)
        for path in paths:
            parts = [self._runs, *(shingles(text) for text in _texts(path))]
            self._runs = np.unique(np.concatenate(parts))

    def __len__(self) -> int:
        return len(self._runs)

    def shared(self, text: str) -> int:
        """How many different runs of a text are held out."""
        return _common(shingles(text), self._runs)


def _texts(path: Path) -> Iterator[str]:
    if path.name.endswith(".jsonl"):
        yield from (document.text for document in jsonl.read(path))
    else:
        yield from (record.text for record in plain.read([path]))


def _common(part: NDArray[np.uint64], whole: NDArray[np.uint64]) -> int:
    if not len(whole):
        return 0
    places = np.minimum(np.searchsorted(whole, part), len(whole) - 1)
    return int((whole[places] == part).sum())
