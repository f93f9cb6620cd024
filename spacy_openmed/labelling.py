"""Annotated entities to wordpiece labels: the inverse of decoding, for training."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .entities import Entity
from .windows import Encoding

Flatten = Callable[[Iterable[Entity]], list[Entity]]

# The label of what does not count in the loss.
IGNORED = -100


def outermost(entities: Iterable[Entity]) -> list[Entity]:
    """Flatten nested and overlapping entities: the longer stays, of equals the earlier.

    RETURNS (list[Entity]): Disjoint, in text order.
    """
    return _disjoint(sorted(entities, key=lambda e: (e.start - e.end, e.start, e.label)))


def innermost(entities: Iterable[Entity]) -> list[Entity]:
    """Flatten nested and overlapping entities: the shorter stays, of equals the earlier.

    RETURNS (list[Entity]): Disjoint, in text order.
    """
    return _disjoint(sorted(entities, key=lambda e: (e.end - e.start, e.start, e.label)))


def _disjoint(by_preference: Sequence[Entity]) -> list[Entity]:
    kept: list[Entity] = []  # in text order
    for entity in by_preference:
        place = bisect_left(kept, entity.start, key=lambda other: other.start)
        before_ends = place == 0 or kept[place - 1].end <= entity.start
        if before_ends and (place == len(kept) or entity.end <= kept[place].start):
            kept.insert(place, entity)
    return kept


# What may be done about nested entities, by the name that the registry of corpora uses.
FLATTEN: dict[str, Flatten] = {"outermost": outermost, "innermost": innermost}


def label_wordpieces(
    encoding: Encoding, entities: Sequence[Entity], label_ids: Mapping[str, int]
) -> NDArray[np.int64]:
    """BIO labels of all wordpieces of a text.

    Every wordpiece that shares a character with an entity belongs to it.

    encoding (Encoding): The text's wordpieces.
    entities (Sequence[Entity]): Disjoint.
    label_ids (Mapping[str, int]): "B-X" and "I-X" to index; "O" is 0.
    RETURNS (int64[n]): Label indices.
    """
    labels = np.zeros(len(encoding), dtype=np.int64)
    for entity in entities:
        inside = np.flatnonzero(
            (encoding.starts < entity.end)
            & (encoding.ends > entity.start)
            & (encoding.starts < encoding.ends)
        )
        inside = inside[labels[inside] == 0]
        labels[inside] = label_ids[f"I-{entity.label}"]
        labels[inside[:1]] = label_ids[f"B-{entity.label}"]
    return labels
