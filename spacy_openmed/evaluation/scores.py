"""Exact-match precision, recall and F1 of entities."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..entities import Entity

Span = tuple[int, int, str]


@dataclass
class Score:
    """Counts of one label, or of all.

    tp, fp, fn (int): Right, spurious and missed entities.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn) if self.tp else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp else 0.0

    def add(self, other: "Score") -> None:
        """Count the other's entities, too."""
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn

    def to_dict(self) -> dict[str, float]:
        """In percent, with the counts."""
        return {
            "precision": 100 * self.precision,
            "recall": 100 * self.recall,
            "f1": 100 * self.f1,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
        }


@dataclass
class Scores:
    """Micro-averaged score and the score of each label."""

    micro: Score = field(default_factory=Score)
    per_label: dict[str, Score] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.micro.to_dict(),
            "per_label": {name: s.to_dict() for name, s in sorted(self.per_label.items())},
        }


def score(
    gold: Iterable[Iterable[Span | Entity]], predicted: Iterable[Iterable[Span | Entity]]
) -> Scores:
    """Compare entities document by document.

    An entity is right if start, end and label all equal those of an annotated one. Each is
    (start, end, label) on characters or tokens, whichever both sides count in. An annotation
    that stands twice must be found twice, as in seqeval.

    RETURNS (Scores): Micro F1 is 2·tp / (2·tp + fp + fn) over all documents and labels.
    """
    return total(score_documents(gold, predicted))


def score_documents(
    gold: Iterable[Iterable[Span | Entity]], predicted: Iterable[Iterable[Span | Entity]]
) -> Iterator[Scores]:
    """As ``score``, each document by itself.

    YIELDS (Scores): One a document, in order; ``total`` of them is what ``score`` gives.
    """
    for gold_doc, predicted_doc in zip(gold, predicted, strict=True):
        scores = Scores()
        wanted = Counter((s[0], s[1], s[2]) for s in gold_doc)
        found = Counter((s[0], s[1], s[2]) for s in predicted_doc)
        for (_, _, label), count in (wanted & found).items():
            scores.per_label.setdefault(label, Score()).tp += count
        for (_, _, label), count in (found - wanted).items():
            scores.per_label.setdefault(label, Score()).fp += count
        for (_, _, label), count in (wanted - found).items():
            scores.per_label.setdefault(label, Score()).fn += count
        for one in scores.per_label.values():
            scores.micro.add(one)
        yield scores


def total(parts: Iterable[Scores]) -> Scores:
    """Scores of all documents from those of each, or of each share of them."""
    scores = Scores()
    for part in parts:
        scores.micro.add(part.micro)
        for label, one in part.per_label.items():
            scores.per_label.setdefault(label, Score()).add(one)
    return scores


def on_tokens(entities: Sequence[Entity], tokens: Sequence[tuple[int, int]]) -> list[Span]:
    """Entities as token ranges, as CoNLL scoring sees them.

    An entity takes every token it shares a character with; a token goes to one entity, the
    earlier.

    entities (Sequence[Entity]): Disjoint, in text order.
    tokens (Sequence[tuple[int, int]]): Character ranges in text order.
    RETURNS (list[tuple[int, int, str]]): First token, token after the last, label.
    """
    spans: list[Span] = []
    position = 0
    for entity in entities:
        while position < len(tokens) and tokens[position][1] <= entity.start:
            position += 1
        first = position
        while position < len(tokens) and tokens[position][0] < entity.end:
            position += 1
        if first < position:
            spans.append((first, position, entity.label))
    return spans
