"""What there is in a split: counts, and hashes of text and annotations."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .documents import Document


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split of a prepared corpus; None where a source does not say.

    documents (int): In the raw form.
    mentions (int): Annotated in the raw text, nested ones included.
    labels (Mapping[str, int]): Mentions of each user-facing label.
    raw_sha256 (str): Hash of raw texts and mentions (``content_hash``).
    sentences, tokens, entities (int): In the CoNLL file; entities are flat.
    conll_sha256 (str): Hash of the texts of joined tokens and their entities.
    only_tagged (int): Entities of the CoNLL file that the raw form, flattened and put on the
        same tokens, has not.
    only_raw (int): Mentions of the raw form that the CoNLL file has not.
    """

    documents: int | None = None
    mentions: int | None = None
    labels: Mapping[str, int] | None = None
    raw_sha256: str | None = None
    sentences: int | None = None
    tokens: int | None = None
    entities: int | None = None
    conll_sha256: str | None = None
    only_tagged: int | None = None
    only_raw: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What is known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def content_hash(documents: Iterable[Document]) -> str:
    """sha256 of texts and annotations, independent of the file format.

    The same for the same documents in the same order, whatever order their entities have.
    """
    digest = hashlib.sha256()
    for document in documents:
        entities = [[e.start, e.end, e.label] for e in sorted(document.entities)]
        line = json.dumps([document.text, entities], ensure_ascii=False)
        # surrogatepass: JSON can escape a lone surrogate, and such a text has a hash too.
        digest.update(line.encode("utf8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def raw_statistics(documents: Sequence[Document]) -> dict[str, Any]:
    """The fields of ``SplitStatistics`` that raw text decides."""
    labels = Counter(e.label for document in documents for e in document.entities)
    return {
        "documents": len(documents),
        "mentions": labels.total(),
        "labels": dict(sorted(labels.items())),
        "raw_sha256": content_hash(documents),
    }


def conll_statistics(documents: Sequence[Document]) -> dict[str, Any]:
    """The fields of ``SplitStatistics`` that tokens decide."""
    return {
        "sentences": sum(len(document.sentences) for document in documents),
        "tokens": sum(len(document.tokens) for document in documents),
        "entities": sum(len(document.entities) for document in documents),
        "conll_sha256": content_hash(documents),
    }
