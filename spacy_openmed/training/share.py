"""A share of a corpus: whole documents, drawn at random, always the same."""

import random
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..corpora.documents import Document, labels_of
from ..corpora.statistics import content_hash


def share(
    documents: Sequence[Document], characters: int, labels: Collection[str] = ()
) -> list[Document]:
    """Documents in random order, always the same, until they have so many characters.

    characters (int): How many; 0 for all documents, in their own order.
    labels (Collection[str]): Those that must be among them: of the rest the first documents that
        have one which is still missing are taken, too.
    """
    if not characters:
        return list(documents)
    shuffled = list(documents)
    random.Random(0).shuffle(shuffled)
    taken: list[Document] = []
    missing = set(labels)
    count = 0
    for document in shuffled:
        own = labels_of([document])
        if count < characters or own & missing:
            taken.append(document)
            missing -= own
            count += len(document.text)
    return taken


def describe(part: Sequence[Document], whole: Sequence[Document]) -> dict[str, Any]:
    """What a share holds, for a record.

    RETURNS (dict): "documents", "characters", "share" (of the whole, by characters),
        "mentions", "sha256".
    """
    characters = _characters(part)
    return {
        "documents": len(part),
        "characters": characters,
        "share": round(characters / _characters(whole), 4),
        "mentions": sum(len(d.entities) for d in part),
        "sha256": content_hash(part),
    }


def _characters(documents: Iterable[Document]) -> int:
    return sum(len(d.text) for d in documents)
