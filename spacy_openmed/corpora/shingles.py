"""Shared text, found by runs of words: what two texts have in common besides their subject."""

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SIZE = 13
_WORD = re.compile(r"\w+")


def shingles(text: str, size: int = SIZE) -> NDArray[np.uint64]:
    """Hashes of all runs of ``size`` words of a text, letter case and punctuation ignored.

    The same on every machine and in every process.

    RETURNS (uint64[n]): Sorted, without repetition; empty for a text of fewer words.
    """
    words = [_word_hash(word) for word in _WORD.findall(text.lower())]
    count = len(words) - size + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.array(words, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for i in range(size):
        # A polynomial over the words, modulo 2**64: their order counts.
        total = total * np.uint64(0x9E3779B97F4A7C15) + hashes[i : i + count]
    # On arrays this small np.unique takes five times as long.
    total.sort()
    return total[np.concatenate(([True], total[1:] != total[:-1]))]


@lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf8", "replace"), digest_size=8).digest(), "big")
