"""Near duplicates: passages that share most of their runs of words with an earlier one."""

import sqlite3
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..corpora.shingles import shingles

_PERMUTATIONS = 128
# Of the pairs that are just as similar as the threshold, one in so many may be missed; of
# those that are more similar far fewer.
_MISSED = 1e-3
_CACHE_KB = 32_000
# Forms that were filled in are alike by the thousand without being near duplicates; those
# that share most bands are compared.
_CANDIDATES = 50
_LIKELY = """
    SELECT text FROM texts JOIN
        (SELECT number, count(*) AS shared FROM bands WHERE hash IN ({marks})
         GROUP BY number ORDER BY shared DESC, number LIMIT {limit})
    USING (number)
"""


class NearDuplicates:
    """Texts that were taken, indexed by MinHash (Broder 1997) with bands (LSH).

    Of the texts that share a band those that share most are compared by their runs of words
    themselves, so nothing is taken for a near duplicate that is none. The index is on disk: a
    kilobyte and the text for each text taken, and a cache of 32 MB in memory.

    path (Path): File for the index; made. The caller removes it.
    size (int): Words of a run.
    threshold (float): Jaccard similarity of the sets of runs from which on two texts are near
        duplicates.
    """

    def __init__(self, path: Path, size: int, threshold: float) -> None:
        from datasketch import MinHash

        self._bands, self._rows = bands_and_rows(threshold)
        # The runs are hashes already, of which MinHash takes 32 bits.
        self._empty = MinHash(self._bands * self._rows, hashfunc=int)
        self._size = size
        self._threshold = threshold
        self._database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            f"PRAGMA cache_size = -{_CACHE_KB}",
            "CREATE TABLE texts (number INTEGER PRIMARY KEY, text TEXT NOT NULL)",
            "CREATE TABLE bands (hash INTEGER, number INTEGER, PRIMARY KEY (hash, number)) "
            "WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def close(self) -> None:
        self._database.close()

    def take(self, text: str) -> bool:
        """Take a text, unless one that was taken is a near duplicate.

        RETURNS (bool): It was taken.
        """
        runs = shingles(text, self._size)
        if not len(runs):
            return True
        bands = self._band_hashes(runs)
        likely = _LIKELY.format(marks=", ".join("?" * len(bands)), limit=_CANDIDATES)
        if any(self._similar(runs, other) for (other,) in self._database.execute(likely, bands)):
            return False
        number = self._database.execute("INSERT INTO texts (text) VALUES (?)", (text,)).lastrowid
        self._database.executemany(
            "INSERT INTO bands VALUES (?, ?)", [(band, number) for band in bands]
        )
        return True

    def _similar(self, runs: NDArray[np.uint64], other: str) -> bool:
        others = shingles(other, self._size)
        common = len(np.intersect1d(runs, others, assume_unique=True))
        return common >= self._threshold * (len(runs) + len(others) - common)

    def _band_hashes(self, runs: NDArray[np.uint64]) -> list[int]:
        sketch = self._empty.copy()
        sketch.update_batch((runs & np.uint64(0xFFFFFFFF)).tolist())
        rows = sketch.hashvalues.reshape(self._bands, self._rows)
        return [
            int.from_bytes(
                blake2b(row.tobytes(), digest_size=8, key=band.to_bytes(2)).digest(), signed=True
            )
            for band, row in enumerate(rows)
        ]


def bands_and_rows(threshold: float) -> tuple[int, int]:
    """How to divide the sketches: the longest bands, which bring the fewest candidates, that
    miss few enough near duplicates."""
    for rows in range(_PERMUTATIONS, 1, -1):
        bands = _PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands < _MISSED:
            return bands, rows
    return _PERMUTATIONS, 1
