"""A text to passages of a length that fits a window."""

from collections.abc import Callable, Iterator

from .sentences import split

Count = Callable[[str], int]


def cut(text: str, count: Count, longest: int) -> list[tuple[str, int]]:
    """Cut a text into passages of about equal length, at ends of sentences.

    No word is lost: passages that come out too short are the caller's to drop. A sentence
    that is too long is cut between words; a single word that is too long stays whole.

    count (Callable): Number of tokens of a text; of two texts with a blank between them it
        must be the sum.
    longest (int): Tokens of a passage at most.
    RETURNS (list[tuple[str, int]]): Passages, with single blanks for all white space, and
        their numbers of tokens; empty for a blank text.
    """
    whole = " ".join(text.split())
    if not whole:
        return []
    size = count(whole)
    if size <= longest:
        return [(whole, size)]
    parts = [part for sentence in split(text) for part in _fitting(sentence, count, longest)]
    remaining = sum(size for _, size in parts)
    passages: list[tuple[str, int]] = []
    taken: list[str] = []
    length = 0
    target = _target(remaining, longest)
    for part, size in parts:
        # Stop where the length is nearest to the target, and in time.
        if taken and (length + size > longest or length + size - target > target - length):
            passages.append((" ".join(taken), length))
            remaining -= length
            taken, length = [], 0
            target = _target(remaining, longest)
        taken.append(part)
        length += size
    return [*passages, (" ".join(taken), length)]


def _target(remaining: int, longest: int) -> float:
    """Equal shares: full passages would leave a last one too short to be kept."""
    return remaining / max(1, -(-remaining // longest))


def _fitting(sentence: str, count: Count, longest: int) -> Iterator[tuple[str, int]]:
    size = count(sentence)
    if size <= longest:
        yield sentence, size
    else:
        for word in sentence.split():
            yield word, count(word)
