"""Which known corpus are some documents of, whatever their labels are called?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, permutations, product

from . import registry
from .documents import Document
from .registry import Dataset
from .statistics import SplitStatistics, content_hash


def dataset_with(documents: Sequence[Document], split: str) -> str | None:
    """The dataset that has exactly these texts and mentions in a split.

    Labels may be the corpus's own, those that users see, or any others that name the same
    mentions.

    documents (Sequence[Document]): In the order of the file.
    split (str): "train", "dev" or "test".
    RETURNS (str | None): Its id; None where no edition's hash is recorded or equal.
    """
    counts = Counter(e.label for document in documents for e in document.entities)
    for name, dataset in registry.with_demos().items():
        for edition in dataset.editions.values():
            known = edition.splits.get(split, SplitStatistics())
            if (known.documents, known.mentions) != (len(documents), counts.total()):
                continue
            for names in _renamings(counts, dataset, known):
                if content_hash(_renamed(documents, names)) == known.raw_sha256:
                    return name
    return None


def _renamings(
    counts: Mapping[str, int], dataset: Dataset, known: SplitStatistics
) -> Iterator[dict[str, str]]:
    """Ways in which labels can stand for those of a dataset: as often as they are there."""
    users = set(dataset.types.values())
    if len(users) == 1:
        yield dict.fromkeys(counts, *users)
        return
    if set(counts) <= set(dataset.types):
        yield {label: dataset.types[label] for label in counts}
    theirs, ours = _by_count(known.labels or {}), _by_count(counts)
    if {n: len(names) for n, names in theirs.items()} != {n: len(ours[n]) for n in ours}:
        return
    # Labels that come equally often, of which there are few, could be one another.
    for orders in product(*(permutations(theirs[n]) for n in ours)):
        yield dict(zip(chain(*ours.values()), chain(*orders), strict=True))


def _by_count(counts: Mapping[str, int]) -> dict[int, list[str]]:
    found = defaultdict(list)
    for label, count in counts.items():
        found[count].append(label)
    return dict(found)


def _renamed(documents: Sequence[Document], names: Mapping[str, str]) -> Iterator[Document]:
    for document in documents:
        entities = [e._replace(label=names[e.label]) for e in document.entities]
        yield replace(document, entities=entities)
