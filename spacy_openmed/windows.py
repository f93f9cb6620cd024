"""Text to wordpieces to windows to batches, and window logits back to one row a wordpiece.

The same four steps serve pre-training, fine-tuning, evaluation and inference, so a model
never meets at run time what it did not see in training: ``encode`` → ``cut`` → ``pack`` →
(model) → ``stitch``. Every function is pure; nothing here imports spaCy or torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import regex

from .characters import APART, UNREADABLE, Codes, codes, is_plain, is_space
from .errors import OpenMedError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# Words that are too long for a tokenizer are cut into runs of this many characters: half of
# its limit, because normalisation (NFD) can lengthen a word.
MAX_RUN = 50
# Longer texts are handed to the tokenizer in pieces cut at white space: its memory is
# bounded and the pieces are tokenised in parallel.
SEGMENT = 20_000
_BREAK = regex.compile(r"\s(?=\S)")


class Windowing(NamedTuple):
    """How texts are cut into windows.

    window (int): Wordpieces of a window, special tokens included.
    overlap (int): Wordpieces that neighbours share at least.
    """

    window: int = 256
    overlap: int = 50

    def but(self, window: int | None, overlap: int | None) -> "Windowing":
        """With what is not None in place of its own."""
        return Windowing(
            self.window if window is None else window,
            self.overlap if overlap is None else overlap,
        )


@dataclass(frozen=True)
class Encoding:
    """A text as wordpieces, special tokens left out.

    ids (int32[n]): Vocabulary ids.
    starts, ends (int32[n]): Character offsets into the text (Python str indices), white
        space trimmed; starts never decrease. A wordpiece that stands for no character has
        start == end.
    """

    ids: "NDArray[np.int32]"
    starts: "NDArray[np.int32]"
    ends: "NDArray[np.int32]"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that a backbone expects around every window, and its padding id."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int

    @property
    def count(self) -> int:
        return len(self.prefix) + len(self.suffix)


def special_tokens(tokenizer: "Tokenizer", pad: int) -> SpecialTokens:
    """Read the ids around a single sequence off the tokenizer's own post-processor."""
    probe = tokenizer.encode("a", add_special_tokens=True)
    content = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
    first, last = (content[0], content[-1] + 1) if content else (len(probe.ids), len(probe.ids))
    return SpecialTokens(tuple(probe.ids[:first]), tuple(probe.ids[last:]), pad)


def encode(text: str, tokenizer: "Tokenizer") -> Encoding:
    """Tokenise a text of any length into wordpieces with character offsets.

    Nothing is truncated. Runs of more than 100 characters without white space,
    punctuation or ASCII symbol are cut before the tokenizer sees them.

    text (str): The text.
    tokenizer (Tokenizer): A fast tokenizer without truncation and padding.
    RETURNS (Encoding): Wordpieces in text order.
    """
    return encode_batch([text], tokenizer)[0]


def encode_batch(texts: Sequence[str], tokenizer: "Tokenizer") -> list[Encoding]:
    """``encode`` for several texts, tokenised in parallel."""
    pieces: list[str] = []
    bases: list[int] = []
    owners: list[int] = []
    characters = [codes(text) for text in texts]
    for owner, (text, points) in enumerate(zip(texts, characters, strict=True)):
        plain = is_plain(points)
        readable = text if plain else _readable(text)
        for start, end in _segments(readable, plain):
            pieces.append(readable[start:end])
            bases.append(start)
            owners.append(owner)
    ids: list[list[NDArray[np.int32]]] = [[] for _ in texts]
    offsets: list[list[NDArray[np.int32]]] = [[] for _ in texts]
    for owner, base, encoded in zip(
        owners, bases, tokenizer.encode_batch(pieces, add_special_tokens=False), strict=True
    ):
        ids[owner].append(np.asarray(encoded.ids, dtype=np.int32))
        offsets[owner].append(
            np.asarray(encoded.offsets, dtype=np.int32).reshape(-1, 2) + np.int32(base)
        )
    return [
        _encoding(points, text_ids, text_offsets)
        for points, text_ids, text_offsets in zip(characters, ids, offsets, strict=True)
    ]


def _encoding(
    points: Codes, ids: "list[NDArray[np.int32]]", offsets: "list[NDArray[np.int32]]"
) -> Encoding:
    if not ids:
        empty = np.zeros(0, dtype=np.int32)
        return Encoding(empty, empty, empty)
    spans = np.concatenate(offsets)
    starts, ends = spans[:, 0].copy(), spans[:, 1].copy()
    # SentencePiece counts the blank before a word as part of it; an entity never starts there.
    space = is_space(points)
    if space.any() and len(starts):
        for _ in range(2):
            leading = (starts < ends) & space[np.minimum(starts, len(points) - 1)]
            starts[leading] += 1
            trailing = (starts < ends) & space[np.maximum(ends - 1, 0)]
            ends[trailing] -= 1
    return Encoding(np.concatenate(ids), np.maximum.accumulate(starts), ends)


def _readable(text: str) -> str:
    """The text, with characters of the same number that every tokenizer takes."""
    return UNREADABLE.sub(lambda match: " " if match[0].isspace() else "\ufffd", text)


def _segments(text: str, plain: bool) -> Iterator[tuple[int, int]]:
    """Character ranges, in order and without gaps, that are tokenised apart."""
    start = 0
    for run in () if plain else APART.finditer(text):
        first, last = run.span()
        yield from _at_white_space(text, start, first)
        for cut in range(first, last, MAX_RUN):
            yield cut, min(cut + MAX_RUN, last)
        start = last
    yield from _at_white_space(text, start, len(text))


def _at_white_space(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > SEGMENT:
        gap = _BREAK.search(text, start + SEGMENT // 2, end)
        if gap is None:
            break
        yield start, gap.start()
        start = gap.start()
    if start < end:
        yield start, end


def cut(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a sequence of wordpieces into windows that overlap.

    All windows of a text have the same length and are spread evenly, which gives every
    wordpiece as much context as the number of windows allows, and fills a batch without
    padding. The first window starts at 0 and the last one ends at ``length``.

    length (int): Number of wordpieces of the text.
    size (int): Wordpieces a window may hold, special tokens not counted.
    overlap (int): Wordpieces that neighbours share at least.
    RETURNS (list[tuple[int, int]]): (start, end) of each window; empty for an empty text.
    RAISES (OpenMedError): The overlap leaves a window nothing of its own.
    """
    if not 0 <= overlap < size:
        raise OpenMedError(
            f"A window of {size} wordpieces cannot overlap its neighbour by {overlap}: "
            f"choose 0 <= overlap < window minus special tokens."
        )
    if length <= 0:
        return []
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    width = -(-(length + overlap * (count - 1)) // count)
    return [
        (start, start + width)
        for start in (i * (length - width) // (count - 1) for i in range(count))
    ]


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group windows of similar length into batches of bounded size.

    lengths (Sequence[int]): Wordpieces of each window.
    budget (int): Largest number of wordpieces in a batch, padding included; a window
        longer than that gets a batch of its own.
    RETURNS (list[list[int]]): Indices into ``lengths``, each exactly once; longest first,
        so that memory peaks in the first batch.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room <= 0:
            batches.append([])
            room = max(1, budget // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches


def pad(
    windows: Sequence["NDArray[np.int32]"], special: SpecialTokens
) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Make one batch of windows: special tokens added, padded to the longest.

    RETURNS (tuple[int64[batch, length], int64[batch, length]]): Ids and attention mask.
    """
    longest = max(len(window) for window in windows) + special.count
    ids = np.full((len(windows), longest), special.pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        full = (*special.prefix, *window, *special.suffix)
        ids[row, : len(full)] = full
        mask[row, : len(full)] = 1
    return ids, mask


def owned(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The wordpieces that each window speaks for: those it is the most central window of.

    A wordpiece's centrality in a window is its distance to the nearer end of that window.
    Since windows are equally long, its most central window is the one whose middle is
    nearest; of two at the same distance, the earlier. Training counts the loss on the same
    ranges, so every wordpiece counts once.

    windows (Sequence[tuple[int, int]]): As ``cut`` made them.
    RETURNS (list[tuple[int, int]]): (start, end) for each window, without gaps or overlaps.
    """
    ranges = []
    begin = windows[0][0] if windows else 0
    for index, (start, end) in enumerate(windows):
        if index + 1 < len(windows):
            next_start, next_end = windows[index + 1]
            # Middles are (start + end - 1) / 2: the last position not nearer to the next.
            stop = (start + end - 1 + next_start + next_end - 1) // 4 + 1
        else:
            stop = end
        ranges.append((begin, stop))
        begin = stop
    return ranges


def stitch(
    windows: Sequence[tuple[int, int]], logits: Sequence["NDArray[np.float32]"]
) -> "NDArray[np.float32]":
    """Join the logits of overlapping windows: for each wordpiece the most central wins.

    windows (Sequence[tuple[int, int]]): As ``cut`` made them, at least one.
    logits (Sequence[float32[end - start, labels]]): One array a window.
    RETURNS (float32[n, labels]): One row a wordpiece.
    """
    return np.concatenate(
        [
            rows[begin - start : stop - start]
            for (start, _), (begin, stop), rows in zip(windows, owned(windows), logits, strict=True)
        ]
    )
