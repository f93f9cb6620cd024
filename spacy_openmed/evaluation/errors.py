"""What kind of errors a model makes, and on which mentions.

Every annotated mention and every prediction has one outcome. Those with the same place and label
are paired first, the rest one to one by overlap, see ``match``; of a pair that is not right,
type or boundary or both are wrong. Annotated mentions that are left are missed, predictions that
are left spurious. So the outcomes of annotated mentions add up to their number, those of
predictions to theirs, and pairs count once on each side.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from ..backbones import file_sha256
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.folder import corpus_file, is_there, read_split
from ..entities import Entity
from ..labelling import Flatten, outermost
from . import predictions
from .origins import by_origin
from .predictions import Predictions
from .seen import Seen

LENGTHS = ("1", "2", "3", "4+")
FREQUENCIES = ("0", "1", "2-4", "5-9", "10+")
SEEN, UNSEEN = "seen", "unseen"
# What depends on the training text.
OF_TRAINING = ("unseen", "by_seen", "by_frequency")


class Outcome(StrEnum):
    """What became of an annotated mention, or of a prediction.

    The boundary of a prediction is too long if it goes beyond the annotated one on one side or
    both and leaves nothing out, too short if it is within it, else it is shifted.
    """

    CORRECT = "correct"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    SHIFTED = "shifted"
    WRONG_BOUNDARY_AND_TYPE = "wrong_boundary_and_type"
    MISSED = "missed"
    SPURIOUS = "spurious"


OF_GOLD = tuple(one for one in Outcome if one is not Outcome.SPURIOUS)
OF_PREDICTED = tuple(one for one in Outcome if one is not Outcome.MISSED)


class Pair(NamedTuple):
    """An annotated mention and the prediction that goes with it.

    gold (Entity | None): None if the prediction is spurious.
    predicted (Entity | None): None if the mention was missed.
    """

    gold: Entity | None
    predicted: Entity | None

    @property
    def outcome(self) -> Outcome:
        """What is wrong, if anything."""
        gold, predicted = self
        if predicted is None:
            return Outcome.MISSED
        if gold is None:
            return Outcome.SPURIOUS
        same_place = (gold.start, gold.end) == (predicted.start, predicted.end)
        if gold.label != predicted.label:
            return Outcome.WRONG_TYPE if same_place else Outcome.WRONG_BOUNDARY_AND_TYPE
        if same_place:
            return Outcome.CORRECT
        if predicted.start <= gold.start and gold.end <= predicted.end:
            return Outcome.TOO_LONG
        if gold.start <= predicted.start and predicted.end <= gold.end:
            return Outcome.TOO_SHORT
        return Outcome.SHIFTED

    @property
    def span(self) -> tuple[int, int]:
        """From the first character of either to the last."""
        both = [entity for entity in self if entity is not None]
        return min(e.start for e in both), max(e.end for e in both)


def match(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[Pair]:
    """Put the annotated mentions and the predictions of a text together, one to one.

    Of all that share a character, the two that share most are paired first (characters in both,
    divided by characters in either), those with the same label before others, then those that
    come first in the text; and so on with what is left.

    RETURNS (list[Pair]): In text order; every mention and every prediction is in one.
    """
    candidates = sorted(
        (-_overlap(g, p), g.label != p.label, g[:3], p[:3], i, j)
        for i, g in enumerate(gold)
        for j, p in enumerate(predicted)
        if g.start < p.end and p.start < g.end
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for *_, i, j in candidates:
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    pairs = [
        Pair(g, predicted[partner[i]] if i in partner else None) for i, g in enumerate(gold)
    ] + [Pair(None, p) for j, p in enumerate(predicted) if j not in taken]
    return sorted(pairs, key=lambda pair: (*pair.span, pair.gold or (), pair.predicted or ()))


def _overlap(a: Entity, b: Entity) -> float:
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared / (a.end - a.start + b.end - b.start - shared)


Matched = list[tuple[Document, Pair]]


def match_all(
    documents: Sequence[Document],
    predicted: Sequence[Sequence[Entity]],
    flatten: Flatten = outermost,
) -> Matched:
    """The pairs of all documents.

    predicted (Sequence[Sequence[Entity]]): One a document.
    flatten (Flatten): Nested annotations are flattened first, as where they are scored.
    """
    return [
        (document, pair)
        for document, found in zip(documents, predicted, strict=True)
        for pair in match(flatten(document.entities), found)
    ]


def analyse(
    documents: Sequence[Document],
    predicted: Sequence[Sequence[Entity]],
    train: Seen,
    flatten: Flatten = outermost,
) -> dict[str, Any]:
    """Count outcomes, of all mentions and of kinds of them. No text is in what is returned.

    documents (Sequence[Document]): What was annotated.
    predicted (Sequence[Sequence[Entity]]): One a document.
    train (Seen): The mentions of the model's training text.
    flatten (Flatten): See ``match_all``.
    RETURNS (dict): "documents", their number; "unseen": {"mentions", "correct", "recall"} of
        annotated mentions that were not annotated in training with the same words and label;
        "overall", a bin; bins by name in "by_label", "by_length" (words), "by_seen" and
        "by_frequency" (times in training); and in "types" the labels of pairs wherever their
        boundaries are: {annotated: {predicted: count}}.

        A bin is {"gold": {"mentions", "outcomes", "recall"}, "predicted": {"mentions",
        "outcomes", "precision"}, "f1"}, in percent, null where there is nothing to divide by.
        An annotated mention is in the bin of its own words and label, a prediction in that of
        its own. A right one is in the same bin on both sides, which is why F1 has a meaning.
    """
    matched = match_all(documents, predicted, flatten)
    labels = {e.label for _, pair in matched for e in pair if e is not None}

    def seen(document: Document, entity: Entity) -> str:
        return SEEN if train.times(document, entity) else UNSEEN

    def frequency(document: Document, entity: Entity) -> str:
        return _frequency(train.times(document, entity))

    by_seen = _bins(matched, seen, (SEEN, UNSEEN))
    unseen = by_seen[UNSEEN]["gold"]
    return {
        "documents": len(documents),
        "unseen": {
            "mentions": unseen["mentions"],
            "correct": unseen["outcomes"][Outcome.CORRECT],
            "recall": unseen["recall"],
        },
        "overall": _bins(matched, lambda document, entity: "all", ("all",))["all"],
        "by_label": _bins(matched, lambda document, entity: entity.label, sorted(labels)),
        "by_length": _bins(matched, _length, LENGTHS),
        "by_seen": by_seen,
        "by_frequency": _bins(matched, frequency, FREQUENCIES),
        "types": _types(matched),
    }


def _length(document: Document, entity: Entity) -> str:
    words = len(document.text[entity.start : entity.end].split())
    return LENGTHS[min(max(words, 1), len(LENGTHS)) - 1]


def _frequency(times: int) -> str:
    if times < 2:
        return str(times)
    return "2-4" if times < 5 else "5-9" if times < 10 else "10+"


def _bins(
    matched: Matched, name: Callable[[Document, Entity], str], names: Iterable[str]
) -> dict[str, Any]:
    gold: Counter[tuple[str, Outcome]] = Counter()
    predicted: Counter[tuple[str, Outcome]] = Counter()
    for document, pair in matched:
        if pair.gold is not None:
            gold[name(document, pair.gold), pair.outcome] += 1
        if pair.predicted is not None:
            predicted[name(document, pair.predicted), pair.outcome] += 1
    return {
        one: _bin(
            {outcome: gold[one, outcome] for outcome in OF_GOLD},
            {outcome: predicted[one, outcome] for outcome in OF_PREDICTED},
        )
        for one in names
    }


def _bin(gold: dict[Outcome, int], predicted: dict[Outcome, int]) -> dict[str, Any]:
    correct = gold[Outcome.CORRECT]
    wanted, found = sum(gold.values()), sum(predicted.values())
    return {
        "gold": {
            "mentions": wanted,
            "outcomes": {one.value: count for one, count in gold.items()},
            "recall": _percent(correct, wanted),
        },
        "predicted": {
            "mentions": found,
            "outcomes": {one.value: count for one, count in predicted.items()},
            "precision": _percent(correct, found),
        },
        "f1": _percent(2 * correct, wanted + found),
    }


def _percent(count: int, of: int) -> float | None:
    return 100 * count / of if of else None


def _types(matched: Matched) -> dict[str, dict[str, int]]:
    counts = Counter(
        (pair.gold.label, pair.predicted.label)
        for _, pair in matched
        if pair.gold is not None and pair.predicted is not None
    )
    types: dict[str, dict[str, int]] = {}
    for (gold, predicted), count in sorted(counts.items()):
        types.setdefault(gold, {})[predicted] = count
    return types


def beside(result: Path) -> Path:
    """Where the errors of a result are: ncbi-dev.json → ncbi-dev.errors.json."""
    # Not with_suffix: "a.v1" and "a.v2" are two results.
    return result.with_name(result.name.removesuffix(".json") + ".errors.json")


def analyse_file(path: Path, corpus: Path) -> dict[str, Any]:
    """Count the errors in a file of predictions, on raw text.

    A mention is seen if train of a dataset has it that the adapter was trained on, those included
    that its training went on from; of an adapter that names none, train of the dataset that it
    was evaluated on. Where one of these is not at hand nobody can tell.

    path (Path): See ``predictions``.
    corpus (Path): Folder with the prepared corpora.
    RETURNS (dict): As ``analyse``'s, with "dataset", "split", "data", "adapter", "edges" of the
        predictions, "train": {"datasets", "data", "absent"}, and "by_source": see ``by_origin``.
        If a dataset is absent, "unseen", "by_seen" and "by_frequency" are None.
    RAISES (OpenMedError): See ``predictions.with_gold``; or there is no train split of the first
        dataset.
    """
    found, at = predictions.with_gold(path, corpus)
    train, trained_on = _training(found.trained_on or [found.dataset], corpus)
    flatten, entities = registry.flatten(found.dataset), _entities(found)
    analysis = analyse(at.raw, entities, train, flatten)
    if trained_on["absent"]:
        analysis |= dict.fromkeys(OF_TRAINING)
    return {
        "dataset": found.dataset,
        "split": found.split,
        "data": dict(found.data),
        "adapter": found.adapter,
        "edges": found.edges,
        "train": trained_on,
        **analysis,
        "by_source": by_origin(found.dataset, at.raw, entities, flatten),
    }


def _training(names: Sequence[str], corpus: Path) -> tuple[Seen, dict[str, Any]]:
    """The mentions of train of some datasets, and what they are from."""
    own, *others = names
    there = [own, *(name for name in others if is_there(corpus, name, "train"))]
    files = {name: corpus_file(corpus, name, "train", ".jsonl") for name in there}
    train = Seen()
    for name in there:
        train.add(read_split(corpus, name, "train"), registry.flatten(name))
    return train, {
        "datasets": list(names),
        "data": {f"{name}/{path.name}": file_sha256(path) for name, path in files.items()},
        "absent": [name for name in others if name not in there],
    }


def _entities(found: Predictions) -> list[list[Entity]]:
    return [one.entities for one in found.raw]


# What is below has text of the corpus in it: for a page made where the corpus is, never for a
# file that is handed on.


@dataclass(frozen=True)
class Example:
    """An error in its context, for displaCy.

    outcome (Outcome): What is wrong.
    document (str): Id of the document.
    gold, predicted (dict): What was annotated and what was found, each as
        ``displacy.render(…, style="ent", manual=True)`` takes it; both have the same text.
    """

    outcome: Outcome
    document: str
    gold: dict[str, Any]
    predicted: dict[str, Any]


def examples(
    documents: Sequence[Document],
    predicted: Sequence[Sequence[Entity]],
    flatten: Flatten = outermost,
    each: int = 3,
    around: int = 120,
) -> list[Example]:
    """Some errors of each kind, evenly spread over the documents; always the same ones.

    predicted (Sequence[Sequence[Entity]]): One a document; disjoint in each.
    each (int): At most so many of each kind.
    around (int): Characters of context on each side, less where a word would be cut and more
        where an entity would.
    RETURNS (list[Example]): By kind, in the order of ``Outcome``.
    """
    errors: dict[Outcome, list[tuple[Document, Pair, list[Entity], Sequence[Entity]]]] = {
        outcome: [] for outcome in Outcome if outcome is not Outcome.CORRECT
    }
    for document, found in zip(documents, predicted, strict=True):
        gold = flatten(document.entities)
        for pair in match(gold, found):
            if pair.outcome is not Outcome.CORRECT:
                errors[pair.outcome].append((document, pair, gold, found))
    return [
        _example(*of_kind[place], around)
        for of_kind in errors.values()
        for place in _evenly(len(of_kind), each)
    ]


def examples_of_file(path: Path, corpus: Path, each: int = 3, around: int = 120) -> list[Example]:
    """Some errors of each kind in a file of predictions, see ``examples``.

    RAISES (OpenMedError): See ``predictions.with_gold``.
    """
    found, at = predictions.with_gold(path, corpus)
    return examples(at.raw, _entities(found), registry.flatten(found.dataset), each, around)


def _evenly(length: int, count: int) -> list[int]:
    count = min(count, length)
    return [i * length // count for i in range(count)]


def _example(
    document: Document,
    pair: Pair,
    gold: Sequence[Entity],
    predicted: Sequence[Entity],
    around: int,
) -> Example:
    start, end = _window(document.text, pair.span, [*gold, *predicted], around)
    text = document.text[start:end]

    def shown(entities: Sequence[Entity]) -> dict[str, Any]:
        inside = [e for e in entities if start <= e.start and e.end <= end]
        ents = [
            {"start": e.start - start, "end": e.end - start, "label": e.label}
            for e in sorted(inside)
        ]
        return {"text": text, "ents": ents, "title": None}

    return Example(pair.outcome, document.id, shown(gold), shown(predicted))


def _window(
    text: str, span: tuple[int, int], entities: Sequence[Entity], around: int
) -> tuple[int, int]:
    """A span and what is around it, with no word cut and no entity."""
    start, end = max(span[0] - around, 0), min(span[1] + around, len(text))
    while 0 < start < span[0] and not text[start - 1].isspace():
        start += 1
    while span[1] < end < len(text) and not text[end].isspace():
        end -= 1
    while cut := [e for e in entities if e.start < start < e.end or e.start < end < e.end]:
        start = min(start, *(e.start for e in cut))
        end = max(end, *(e.end for e in cut))
    return start, end
