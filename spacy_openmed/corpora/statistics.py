"""What there is in a split: counts, and hashes of text and annotations."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import OpenMedError
from ..evaluation.scores import on_tokens
from ..labelling import Flatten
from .documents import Document
from .token_offsets import token_offsets


class ContentHash:
    """sha256 of texts and annotations, independent of the file format.

    The same for the same documents in the same order, whatever order their entities have.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, document: Document) -> None:
        """Take one more document into account."""
        entities = [[e.start, e.end, e.label] for e in sorted(document.entities)]
        line = json.dumps([document.text, entities], ensure_ascii=False)
        # surrogatepass: JSON can escape a lone surrogate, and such a text has a hash too.
        self._digest.update(line.encode("utf8", "surrogatepass") + b"\n")

    def hexdigest(self) -> str:
        """The hash of what was added so far."""
        return self._digest.hexdigest()


def content_hash(documents: Iterable[Document]) -> str:
    """sha256 of texts and annotations of documents, see ``ContentHash``."""
    digest = ContentHash()
    for document in documents:
        digest.add(document)
    return digest.hexdigest()


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


class RawStatistics:
    """Counts documents in raw form while they pass through."""

    def __init__(self) -> None:
        self.documents = 0
        self.labels: Counter[str] = Counter()
        self.hash = ContentHash()

    def count(self, documents: Iterable[Document]) -> Iterator[Document]:
        """YIELDS (Document): The same documents."""
        for document in documents:
            self.documents += 1
            self.labels.update(e.label for e in document.entities)
            self.hash.add(document)
            yield document

    def to_dict(self) -> dict[str, Any]:
        """The fields of ``SplitStatistics`` that raw text decides."""
        return {
            "documents": self.documents,
            "mentions": sum(self.labels.values()),
            "labels": dict(sorted(self.labels.items())),
            "raw_sha256": self.hash.hexdigest(),
        }


class ConllStatistics:
    """Counts documents of tokens while they pass through."""

    def __init__(self) -> None:
        self.sentences = 0
        self.tokens = 0
        self.entities = 0
        self.hash = ContentHash()

    def count(self, documents: Iterable[Document]) -> Iterator[Document]:
        """YIELDS (Document): The same documents."""
        for document in documents:
            self.sentences += len(document.sentences)
            self.tokens += len(document.tokens)
            self.entities += len(document.entities)
            self.hash.add(document)
            yield document

    def to_dict(self) -> dict[str, Any]:
        """The fields of ``SplitStatistics`` that tokens decide."""
        return {
            "sentences": self.sentences,
            "tokens": self.tokens,
            "entities": self.entities,
            "conll_sha256": self.hash.hexdigest(),
        }


def differing(
    raw: Iterable[Document], tagged: Iterable[Document], flatten: Flatten
) -> dict[str, int]:
    """Entities that only one of both forms of a split has, on the tokens of the CoNLL file.

    raw, tagged (Iterable[Document]): The same documents, by id, or in the same order where the
        CoNLL file has no ids.
    flatten (Flatten): What is done about nested mentions.
    RETURNS (dict): "only_tagged" and "only_raw".
    RAISES (OpenMedError): A document is in one of both only, or its tokens are not in the text.
    """
    left = {d.id or number: d for number, d in enumerate(raw)}
    in_order = iter(list(left))
    only_tagged = only_raw = 0
    for other in tagged:
        key = other.id or next(in_order, None)
        one = left.pop(key, None) if key is not None else None
        if one is None:
            raise OpenMedError(f"document '{other.id}' is in the CoNLL file only.")
        words = [other.text[start:end] for start, end in other.tokens]
        tokens = token_offsets(words, one.text, one.id)
        there = set(on_tokens(other.entities, other.tokens))
        here = set(on_tokens(flatten(one.entities), tokens))
        only_tagged += len(there - here)
        only_raw += len(here - there)
    if left:
        raise OpenMedError(f"document '{next(iter(left))}' is not in the CoNLL file.")
    return {"only_tagged": only_tagged, "only_raw": only_raw}
