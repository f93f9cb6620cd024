"""Does a folder hold what the registry says? Counts, hashes, repeated and shared text."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OpenMedError
from . import registry
from .differing import differing
from .duplicates import Sentences, merged, repeated_sentences, shared_percent
from .folder import SPLITS, corpus_file, corpus_file_or_none, installed
from .formats import conll, jsonl
from .registry import Dataset, Edition, Overlap
from .shingles import shingles
from .statistics import SplitStatistics, conll_statistics, raw_statistics

Progress = Callable[[str], None]


@dataclass
class Found:
    """What a folder holds of one dataset.

    edition (Edition): The one it comes nearest to.
    splits (dict[str, SplitStatistics]): Counts and hashes.
    repeated (dict[str, tuple[int, int]]): Sentences that an earlier split has too.
    breaches (list[str]): What differs from the registry.
    """

    edition: Edition
    splits: dict[str, SplitStatistics] = field(default_factory=dict)
    repeated: dict[str, tuple[int, int]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a folder holds.

    datasets (dict[str, Found]): By id.
    missing (list[str]): Ids that are not there.
    overlaps (list[Overlap]): Text shared between corpora, from 0.1 percent on.
    breaches (list[str]): Every difference from the registry, of the datasets and overlaps.
    """

    datasets: dict[str, Found]
    missing: list[str]
    overlaps: list[Overlap]
    breaches: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "datasets": {
                name: {
                    "edition": found.edition.id,
                    "partial": found.edition.partial,
                    "splits": {split: s.to_dict() for split, s in found.splits.items()},
                    "repeated": found.repeated,
                }
                for name, found in self.datasets.items()
            },
            "missing": self.missing,
            "overlaps": [vars(overlap) for overlap in self.overlaps],
            "breaches": self.breaches,
        }


def verify(folder: Path, ids: Iterable[str] = (), progress: Progress = lambda _: None) -> Report:
    """Read a folder of prepared corpora and compare it with the registry.

    folder (Path): Holds ``ner/<dataset>/{train,dev,test}.{jsonl,conll}`` or
        ``<dataset>/…``.
    ids (Iterable[str]): Datasets that must be there; by default whatever is there.
    progress (Progress): Called with the id of each dataset before it is read.
    RETURNS (Report): Breaches include what a reader refused.
    RAISES (OpenMedError): Unknown id, or nothing to verify.
    """
    wanted = [registry.dataset(name) for name in ids]
    candidates = wanted or list(registry.with_demos().values())
    here = [d for d in candidates if installed(folder, d.id)]
    # Nobody misses a demo among the corpora.
    missing = [d.id for d in candidates if d not in here and (wanted or not d.demo)]
    if not here and not wanted:
        raise OpenMedError(
            f"No corpus in {folder}: expected ner/ID/train.jsonl or ID/train.jsonl for one of "
            f"{', '.join(registry.with_demos())}."
        )
    report = Report({}, missing, [], [f"{d.id}: not in {folder}" for d in wanted if d not in here])
    texts: dict[tuple[str, str], NDArray[np.uint64]] = {}
    for dataset in here:
        progress(dataset.id)
        found, split_texts = verify_dataset(folder, dataset)
        report.datasets[dataset.id] = found
        report.breaches += [f"{dataset.id}: {breach}" for breach in found.breaches]
        texts.update({(dataset.id, split): part for split, part in split_texts.items()})
    report.overlaps = _overlaps(texts)
    report.breaches += _overlap_breaches(
        report.overlaps,
        [
            name
            for name, found in report.datasets.items()
            if any(split.raw_sha256 for split in found.edition.splits.values())
        ],
    )
    return report


def verify_dataset(folder: Path, dataset: Dataset) -> tuple[Found, dict[str, NDArray[np.uint64]]]:
    """Read one dataset and compare it with its editions.

    RETURNS (tuple[Found, dict]): What is there; the shingles of each split's texts.
    """
    splits: dict[str, SplitStatistics] = {}
    sentences: dict[str, Sentences] = {}
    texts: dict[str, NDArray[np.uint64]] = {}
    problems: list[str] = []
    for split in SPLITS:
        counts: dict[str, Any] = {}
        raw = tagged = None
        try:
            path = corpus_file(folder, dataset.id, split, ".jsonl")
            raw = list(jsonl.read(path, dataset.types))
            texts[split] = merged(shingles(document.text) for document in raw)
            counts |= raw_statistics(raw)
        except OpenMedError as error:
            problems.append(str(error))
        tokens = corpus_file_or_none(folder, dataset.id, split, ".conll")
        # Some editions have no published tokens; where one has, its counts are missed below.
        if tokens is not None:
            sentences[split] = Sentences()
            try:
                tagged = list(conll.read(tokens, dataset.types, scheme="BIO2"))
                for document in tagged:
                    sentences[split].add(document)
                counts |= conll_statistics(tagged)
            except OpenMedError as error:
                problems.append(str(error))
        if raw is not None and tagged is not None:
            try:
                counts |= differing(raw, tagged, dataset.flatten)
            except OpenMedError as error:
                problems.append(f"{split}: {error}")
        splits[split] = SplitStatistics(**counts)
    repeated = repeated_sentences(sentences)
    edition, breaches = nearest_edition(dataset, splits, repeated)
    return Found(edition, splits, repeated, problems + breaches), texts


def nearest_edition(
    dataset: Dataset,
    splits: Mapping[str, SplitStatistics],
    repeated: Mapping[str, tuple[int, int]],
) -> tuple[Edition, list[str]]:
    """The edition of whose recorded values the smallest share differs, and what differs.

    Of equally near ones it is the one that more is recorded of: the others are less sure.

    repeated (Mapping): Compared where the edition records it.
    """
    found = {
        **{(split, name): v for split, s in splits.items() for name, v in s.to_dict().items()},
        **{("repeated sentences", name): counts for name, counts in repeated.items()},
    }
    ranked = []
    for edition in dataset.editions.values():
        recorded = {
            **{
                (split, name): value
                for split, statistics in edition.splits.items()
                for name, value in statistics.to_dict().items()
            },
            **{("repeated sentences", name): counts for name, counts in edition.repeated.items()},
        }
        differences = [
            f"{part}: {name} {found.get((part, name))}, the registry has {value}"
            for (part, name), value in recorded.items()
            if found.get((part, name)) != value
        ]
        # An edition of which nothing is recorded is nobody's nearest.
        share = len(differences) / len(recorded) if recorded else 2.0
        ranked.append(((share, -len(recorded)), edition, differences))
    _, edition, differences = min(ranked, key=lambda entry: entry[0])
    return edition, differences


def _overlaps(texts: Mapping[tuple[str, str], NDArray[np.uint64]]) -> list[Overlap]:
    found = []
    for (dataset, split), part in texts.items():
        for (other, train), whole in texts.items():
            if split == "train" or train != "train" or other == dataset:
                continue
            percent = round(shared_percent(part, whole), 2)
            if percent >= registry.OVERLAP_PERCENT:
                found.append(Overlap(dataset, split, other, percent))
    return found


def _overlap_breaches(found: list[Overlap], ids: list[str]) -> list[str]:
    """Differences from the recorded overlaps between datasets whose very texts are recorded."""
    here = [o for o in found if o.dataset in ids and o.train_of in ids]
    known = [o for o in registry.overlaps() if o.dataset in ids and o.train_of in ids]
    return [f"{_say(o)}: not in the registry" for o in here if o not in known] + [
        f"{_say(o)}: in the registry, not found" for o in known if o not in here
    ]


def _say(overlap: Overlap) -> str:
    return (
        f"{overlap.percent} percent of {overlap.dataset} {overlap.split} is in train of "
        f"{overlap.train_of}"
    )
