"""Scoring a predictor on a corpus: raw F1 and CoNLL F1."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..backbones import file_sha256
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.folder import corpus_file, corpus_file_or_none
from ..corpora.formats import conll, jsonl
from ..corpora.statistics import content_hash
from ..entities import Entity
from ..labelling import Flatten, outermost
from .scores import Scores, on_tokens, score_documents, total
from .significance import summary

Predict = Callable[[Sequence[str]], list[list[Entity]]]
_BATCH = 64


class Found(NamedTuple):
    """What was found in a document.

    id (str): Of the document.
    entities (list[Entity]): On the characters of its text, in text order, disjoint.
    """

    id: str
    entities: list[Entity]


@dataclass(frozen=True)
class Split:
    """A split of a prepared corpus.

    dataset (str): Id.
    split (str): "train", "dev" or "test".
    raw (list[Document]): Raw text; annotations may be nested.
    conll (list[Document] | None): Tokens; None where the corpus has no token file.
    data (dict[str, str]): Name to sha256 of each file.
    """

    dataset: str
    split: str
    raw: list[Document]
    conll: list[Document] | None
    data: dict[str, str]

    @property
    def edition(self) -> registry.Edition | None:
        """The one that the registry knows to have these very texts and mentions."""
        tokens = None if self.conll is None else content_hash(self.conll)
        return registry.edition_with(self.dataset, self.split, content_hash(self.raw), tokens)


def load(dataset: str, split: str, corpus: Path) -> Split:
    """Read a split as it is evaluated.

    corpus (Path): Folder with the prepared corpora.
    RAISES (OpenMedError): Unknown dataset, no such files, or what is wrong in them.
    """
    types = registry.dataset(dataset).types
    raw_file = corpus_file(corpus, dataset, split, ".jsonl")
    conll_file = corpus_file_or_none(corpus, dataset, split, ".conll")
    return Split(
        dataset=dataset,
        split=split,
        raw=list(jsonl.read(raw_file, types)),
        conll=list(conll.read(conll_file, types, scheme="BIO2")) if conll_file else None,
        data={p.name: file_sha256(p) for p in (raw_file, conll_file) if p is not None},
    )


def find(predict: Predict, at: Split) -> tuple[list[Found], list[Found] | None]:
    """Run a model on the texts of a split.

    predict (Predict): Texts to entities.
    RETURNS (tuple): What it found in the raw texts, and in the texts of joined tokens; None
        where there are no tokens.
    """
    return _found(predict, at.raw), None if at.conll is None else _found(predict, at.conll)


def figures(at: Split, raw: Sequence[Found], conll: Sequence[Found] | None) -> dict[str, Any]:
    """Both scores of what was found in a split.

    raw, conll (Sequence[Found] | None): See ``find``.
    RETURNS (dict): "raw" and, where the corpus has published tokens, "conll", each precision,
        recall, f1 in percent, counts, the same per label, and what ``summary`` adds.
    RAISES (OpenMedError): The split has no document.
    """
    edition = at.edition
    result = {
        "dataset": at.dataset,
        "split": at.split,
        # None where the registry does not know these very texts and mentions.
        "edition": edition.id if edition else None,
        "partial": edition.partial if edition else None,
        "data": at.data,
        "raw": summary(
            _on_characters(at.raw, [found.entities for found in raw], registry.flatten(at.dataset))
        ),
    }
    if at.conll is not None and conll is not None:
        result["conll"] = summary(_on_tokens(at.conll, [found.entities for found in conll]))
    return result


def evaluate(predict: Predict, dataset: str, split: str, corpus: Path) -> dict[str, Any]:
    """Both scores of a model on a split.

    predict (Predict): Texts to entities.
    dataset (str): One of the 12 ids.
    split (str): "train", "dev" or "test".
    corpus (Path): Folder with the prepared corpora.
    RETURNS (dict): See ``figures``.
    RAISES (OpenMedError): Unknown dataset, or no such files.
    """
    at = load(dataset, split, corpus)
    return figures(at, *find(predict, at))


def evaluate_own(predict: Predict, documents: Sequence[Document], path: Path) -> dict[str, Any]:
    """Raw scores on the user's own annotations.

    path (Path): Where they are from; only its name is recorded.
    RETURNS (dict): As ``evaluate``'s, without "conll".
    """
    return {
        "file": path.name,
        "data": {"raw_sha256": content_hash(documents)},
        "raw": summary(_on_characters(documents, _in_batches(predict, documents), outermost)),
    }


def raw_scores(
    predict: Predict, documents: Iterable[Document], flatten: Flatten = outermost
) -> Scores:
    """Exact match on the character offsets of raw text: what a user gets.

    flatten (Flatten): Nested annotations are flattened first, since BIO cannot say more.
    """
    documents = list(documents)
    return total(_on_characters(documents, _in_batches(predict, documents), flatten))


def _on_characters(
    documents: Sequence[Document], predicted: Sequence[list[Entity]], flatten: Flatten
) -> list[Scores]:
    return list(score_documents([flatten(d.entities) for d in documents], predicted))


def _on_tokens(documents: Sequence[Document], predicted: Sequence[list[Entity]]) -> list[Scores]:
    """Exact match on the corpus's tokens: what the literature reports.

    The model has read whole documents of tokens joined by blanks; its entities are put on those
    tokens. Equal to seqeval's strict micro F1.
    """
    return list(
        score_documents(
            [on_tokens(d.entities, d.tokens) for d in documents],
            [on_tokens(p, d.tokens) for p, d in zip(predicted, documents, strict=True)],
        )
    )


def _found(predict: Predict, documents: Sequence[Document]) -> list[Found]:
    predicted = _in_batches(predict, documents)
    return [Found(d.id, entities) for d, entities in zip(documents, predicted, strict=True)]


def _in_batches(predict: Predict, documents: Sequence[Document]) -> list[list[Entity]]:
    predicted: list[list[Entity]] = []
    for start in range(0, len(documents), _BATCH):
        predicted.extend(predict([d.text for d in documents[start : start + _BATCH]]))
    return predicted
