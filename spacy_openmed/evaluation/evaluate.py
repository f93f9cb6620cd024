"""Scoring a predictor on a corpus: raw F1 and CoNLL F1."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..backbones import file_sha256
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.folder import corpus_file, corpus_file_or_none
from ..corpora.formats import conll, jsonl
from ..corpora.statistics import content_hash
from ..entities import Entity
from ..labelling import Flatten, outermost
from .scores import Scores, on_tokens, score

Predict = Callable[[Sequence[str]], list[list[Entity]]]
_BATCH = 64


def evaluate(predict: Predict, dataset: str, split: str, corpus: Path) -> dict[str, Any]:
    """Both scores of one split.

    predict (Predict): Texts to entities.
    dataset (str): One of the 12 ids.
    split (str): "train", "dev" or "test".
    corpus (Path): Folder with the prepared corpora.
    RETURNS (dict): "raw" and, where the corpus has published tokens, "conll", each precision,
        recall, f1 in percent, counts, and the same per label.
    RAISES (OpenMedError): Unknown dataset, or no such files.
    """
    types = registry.dataset(dataset).types
    raw_file = corpus_file(corpus, dataset, split, ".jsonl")
    conll_file = corpus_file_or_none(corpus, dataset, split, ".conll")
    documents = list(jsonl.read(raw_file, types))
    edition = registry.edition_with(dataset, split, content_hash(documents))
    result = {
        "dataset": dataset,
        "split": split,
        # None where the registry does not know these very texts and mentions.
        "edition": edition.id if edition else None,
        "partial": edition.partial if edition else None,
        "data": {p.name: file_sha256(p) for p in (raw_file, conll_file) if p is not None},
        "raw": raw_scores(predict, documents, registry.flatten(dataset)).to_dict(),
    }
    if conll_file is not None:
        tagged = conll.read(conll_file, types, scheme="BIO2")
        result["conll"] = conll_scores(predict, tagged).to_dict()
    return result


def evaluate_own(predict: Predict, documents: Sequence[Document], path: Path) -> dict[str, Any]:
    """Raw scores on the user's own annotations.

    path (Path): Where they are from; only its name is recorded.
    RETURNS (dict): As ``evaluate``'s, without "conll".
    """
    return {
        "file": path.name,
        "data": {"raw_sha256": content_hash(documents)},
        "raw": raw_scores(predict, documents).to_dict(),
    }


def raw_scores(
    predict: Predict, documents: Iterable[Document], flatten: Flatten = outermost
) -> Scores:
    """Exact match on the character offsets of raw text: what a user gets.

    flatten (Flatten): Nested annotations are flattened first, since BIO cannot say more.
    """
    documents = list(documents)
    predicted = _in_batches(predict, documents)
    return score([flatten(d.entities) for d in documents], predicted)


def conll_scores(predict: Predict, documents: Iterable[Document]) -> Scores:
    """Exact match on the corpus's tokens: what the literature reports.

    The model reads whole documents of tokens joined by blanks; its entities are put on
    those tokens. Equal to seqeval's strict micro F1.
    """
    documents = list(documents)
    predicted = _in_batches(predict, documents)
    return score(
        [on_tokens(d.entities, d.tokens) for d in documents],
        [on_tokens(p, d.tokens) for p, d in zip(predicted, documents, strict=True)],
    )


def _in_batches(predict: Predict, documents: Sequence[Document]) -> list[list[Entity]]:
    predicted: list[list[Entity]] = []
    for start in range(0, len(documents), _BATCH):
        predicted.extend(predict([d.text for d in documents[start : start + _BATCH]]))
    return predicted
