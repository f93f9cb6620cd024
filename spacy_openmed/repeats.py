"""Label consistency: a mention that was found is carried to the same words elsewhere in the text.

A text names what it is about again and again, and a tagger that finds "ibuprofen" in one sentence
and misses it in the next contradicts itself. That the same words in one text mostly are the same
thing is known as label consistency (Krishnan & Manning 2006, "An effective two-stage model for
exploiting non-local dependencies in named entity recognition"). Whether it helps depends on what a
corpus annotates, which is why each adapter says from which score on its mentions are carried.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

# Shorter ones are abbreviations and symbols that are also something else.
MIN_CHARACTERS = 3


class Mention(NamedTuple):
    """A found entity on the units of a text.

    first, stop (int): Its units are first … stop - 1.
    kind (int): Index of its type.
    score (float): The model's probability of it.
    """

    first: int
    stop: int
    kind: int
    score: float


def carried(words: Sequence[str], mentions: Sequence[Mention], least: float) -> list[Mention]:
    """The same words where nothing was found, as mentions with the type and score of the source.

    Case counts, blanks and line breaks between words do not. Of several that fit at a place the
    longest counts; of types of the same words the most frequent. The time grows with the number of
    words, and with how many lengths the mentions have that begin with the same word.

    words (Sequence[str]): The units of a text.
    mentions (Sequence[Mention]): Found in it, in text order, disjoint.
    least (float): Only mentions with at least this score are carried.
    RETURNS (list[Mention]): New ones only, in text order, disjoint from each other and from all
        that were found.
    """
    sources: dict[tuple[str, ...], list[Mention]] = defaultdict(list)
    for mention in mentions:
        phrase = tuple(words[mention.first : mention.stop])
        if mention.score >= least and sum(map(len, phrase)) >= MIN_CHARACTERS:
            sources[phrase].append(mention)
    if not sources:
        return []
    told = {phrase: _kind_and_score(same) for phrase, same in sources.items()}
    lengths: dict[str, list[int]] = defaultdict(list)
    for phrase in sorted(told, key=len, reverse=True):
        if len(phrase) not in lengths[phrase[0]]:
            lengths[phrase[0]].append(len(phrase))

    found = []
    at = 0
    for mention in [*mentions, Mention(len(words), len(words), 0, 0.0)]:
        while at < mention.first:
            for length in lengths.get(words[at], ()):
                stop = at + length
                same = told.get(tuple(words[at:stop])) if stop <= mention.first else None
                if same is not None:
                    found.append(Mention(at, stop, *same))
                    at = stop
                    break
            else:
                at += 1
        at = mention.stop
    return found


def _kind_and_score(sources: Sequence[Mention]) -> tuple[int, float]:
    """The most frequent type, of equally frequent ones the first, and its highest score."""
    kinds = Counter(source.kind for source in sources)
    kind = max(sorted(kinds), key=lambda kind: kinds[kind])
    return kind, max(source.score for source in sources if source.kind == kind)
