"""Text that occurs twice: sentences in two splits, passages in two corpora."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .documents import Document

LONG = 8


def sentence_hashes(document: Document) -> tuple[list[int], list[bool]]:
    """A hash for each sentence of a document with tokens, and whether it is long.

    RETURNS (tuple[list[int], list[bool]]): 64-bit hashes of the tokens; True from ``LONG``
        tokens on (short ones, headings above all, repeat without meaning anything).
    """
    hashes = []
    long = []
    for first, stop in document.sentences:
        tokens = [document.text[a:b] for a, b in document.tokens[first:stop]]
        digest = blake2b("\x1f".join(tokens).encode("utf8", "replace"), digest_size=8)
        hashes.append(int.from_bytes(digest.digest(), "big"))
        long.append(len(tokens) >= LONG)
    return hashes, long


class Sentences:
    """The sentences of a split, as hashes.

    hashes (list[int]): One a sentence, repetitions included.
    long (list[bool]): Of ``LONG`` tokens or more.
    """

    def __init__(self) -> None:
        self.hashes: list[int] = []
        self.long: list[bool] = []

    def add(self, document: Document) -> None:
        """Take the sentences of one more document."""
        hashes, long = sentence_hashes(document)
        self.hashes += hashes
        self.long += long

    def found_in(self, other: "Sentences") -> tuple[int, int]:
        """How many of these sentences the other split has as well: all, and long ones."""
        known = set(other.hashes)
        repeated = [long for h, long in zip(self.hashes, self.long, strict=True) if h in known]
        return len(repeated), sum(repeated)


def repeated_sentences(splits: Mapping[str, Sentences]) -> dict[str, tuple[int, int]]:
    """Sentences of dev and test that an earlier split has as well.

    splits (Mapping[str, Sentences]): "train", "dev", "test".
    RETURNS (dict): "dev_in_train", "test_in_train", "test_in_dev" to (all, long).
    """
    return {
        f"{later}_in_{earlier}": splits[later].found_in(splits[earlier])
        for later, earlier in (("dev", "train"), ("test", "train"), ("test", "dev"))
        if later in splits and earlier in splits
    }


def merged(parts: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Shingles of many texts as one sorted set."""
    arrays = list(parts)
    return np.unique(np.concatenate(arrays)) if arrays else np.empty(0, dtype=np.uint64)


def shared_percent(part: NDArray[np.uint64], whole: NDArray[np.uint64]) -> float:
    """How much of one set of shingles the other has, in percent.

    part, whole (uint64[n], uint64[m]): Sorted, without repetition.
    """
    if not len(part):
        return 0.0
    return 100 * float(np.isin(part, whole, assume_unique=True).mean())
