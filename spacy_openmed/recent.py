"""Encodings of the last batches, for the next component of a pipeline that asks for them."""

import threading
from collections import deque
from collections.abc import Sequence

from tokenizers import Tokenizer

from .windows import Encoding, encode_batch

# Components of a pipeline are a batch apart from each other, and eleven adapters eleven batches.
BATCHES = 16
# Of all that is kept: some megabytes of encodings.
CHARACTERS = 4_000_000


class RecentEncodings:
    """Encodes texts, and remembers the last batches."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Tokenizer, list[str], list[Encoding]]] = deque(maxlen=BATCHES)
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], tokenizer: Tokenizer) -> list[Encoding]:
        """As ``encode_batch``.

        RETURNS (list[Encoding]): Perhaps those that an earlier call with the same texts and
            the same tokenizer object returned.
        """
        wanted = list(texts)
        with self._lock:
            for by, same, encodings in self._kept:
                if by is tokenizer and same == wanted:
                    return encodings
        found = encode_batch(wanted, tokenizer)
        with self._lock:
            self._kept.appendleft((tokenizer, wanted, found))
            # The newest stays, whatever its size: a stream encodes a batch ahead.
            while len(self._kept) > 1 and self._characters() > CHARACTERS:
                self._kept.pop()
        return found

    def _characters(self) -> int:
        return sum(len(text) for _, texts, _ in self._kept for text in texts)
