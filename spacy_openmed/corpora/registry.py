"""The 12 datasets, and one of our own to try things with, as data (``registry.toml``)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..labelling import FLATTEN, Flatten, outermost
from .statistics import SplitStatistics

_FILE = Path(__file__).parent / "registry.toml"
# Less than this is chance: set phrases, names of journals.
OVERLAP_PERCENT = 0.1


@dataclass(frozen=True)
class Source:
    """Where an original comes from.

    url (str): A file to download, or "".
    git (str): A repository, or "".
    commit (str): The commit that was read.
    path (str): File or folder in the repository.
    sha256 (str): Of the file, where it could be computed.
    """

    url: str = ""
    git: str = ""
    commit: str = ""
    path: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return self.url or f"{self.git} @ {self.commit[:12]} : {self.path}"


@dataclass(frozen=True)
class Edition:
    """One form in which a dataset is around, with what it holds.

    id (str): "official", or what it is called instead.
    about (str): What is special about it.
    partial (bool): Only a part of the dataset: no figure from it is comparable with others'.
    splits (Mapping[str, SplitStatistics]): Expected counts; empty where not recorded.
    repeated (Mapping[str, tuple[int, int]]): See ``duplicates.repeated_sentences``.
    """

    id: str
    about: str = ""
    partial: bool = False
    splits: Mapping[str, SplitStatistics] = field(default_factory=dict)
    repeated: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def same_mentions(self, split: str) -> bool:
        """Whether the token file annotates what the raw form does, but for one in ten at most.

        split (str): One without recorded counts is taken to.
        """
        known = self.splits.get(split)
        if known is None or not known.entities or known.only_tagged is None:
            return True
        return known.only_tagged <= known.entities / 10


@dataclass(frozen=True)
class Dataset:
    """One of the 12 corpora of arXiv 2508.01630, or a corpus of our own.

    id (str): As users name it, e.g. "bc5cdr-chem".
    name (str): In full.
    types (Mapping[str, str]): The corpus's entity types to the labels users see.
    licence (str): As stated by the source.
    format (str): Of the originals.
    split (str): Which split it is.
    citation (str): Of the publication.
    sources (tuple[Source, ...]): Where the originals come from.
    editions (Mapping[str, Edition]): What a folder may hold, the usual one first.
    table3 (tuple[int, int, int] | None): The paper's row of its Table 3: train, dev, test.
    table3_meaning (str): What that row turns out to count.
    notes (str): What else a user should know.
    user_data (str): Where the user gets it, if it may not be handed on; else "".
    nested (str): Which of nested mentions stays where tags can say one only: "outermost", or
        "innermost" where the published CoNLL files keep that.
    demo (bool): Ours, to try the commands with: of no table, and in no claim about the 12.
    """

    id: str
    name: str
    types: Mapping[str, str]
    licence: str
    format: str
    split: str
    citation: str
    sources: tuple[Source, ...]
    editions: Mapping[str, Edition]
    table3: tuple[int, int, int] | None = None
    table3_meaning: str = ""
    notes: str = ""
    user_data: str = ""
    nested: str = "outermost"
    demo: bool = False

    @property
    def flatten(self) -> Flatten:
        """What ``nested`` names."""
        return FLATTEN[self.nested]


@dataclass(frozen=True)
class Overlap:
    """Text that a corpus shares with another one's train split.

    dataset, split (str): What is evaluated on.
    train_of (str): The other dataset.
    percent (float): Of the split's distinct runs of 13 words.
    """

    dataset: str
    split: str
    train_of: str
    percent: float


def datasets() -> dict[str, Dataset]:
    """The paper's 12 datasets by id, in its order."""
    return {name: known for name, known in _load()[0].items() if not known.demo}


def with_demos() -> dict[str, Dataset]:
    """All datasets by id, those of our own last."""
    return _load()[0]


def overlaps() -> list[Overlap]:
    """Known overlaps between corpora, from ``OVERLAP_PERCENT`` on."""
    return _load()[1]


def dataset(name: str) -> Dataset:
    """One dataset.

    RAISES (OpenMedError): Unknown id.
    """
    known = with_demos()
    if name not in known:
        raise OpenMedError(f"Unknown dataset '{name}'. Known ids: {', '.join(known)}.")
    return known[name]


def flatten(name: str) -> Flatten:
    """What is done about nested mentions of a dataset; of any other name: the outermost stay."""
    known = with_demos().get(name)
    return known.flatten if known else outermost


def edition_with(
    name: str, split: str, raw_sha256: str, conll_sha256: str | None = None
) -> Edition | None:
    """The edition of a dataset that has exactly these texts and mentions in a split.

    name (str): Dataset id; any other name has no editions.
    conll_sha256 (str | None): Of the token file: tells apart those with the same raw form.
    RETURNS (Edition | None): None where no edition's hash is recorded or equal.
    """
    known = with_demos().get(name)
    found = [
        edition
        for edition in (known.editions.values() if known else ())
        if split in edition.splits and edition.splits[split].raw_sha256 == raw_sha256
    ]
    # Of some the tokens are not recorded.
    possible = [one for one in found if one.splits[split].conll_sha256 in (conll_sha256, None)]
    return next(iter(possible if conll_sha256 and possible else found), None)


def same_mentions(name: str, edition: str | None, split: str) -> bool:
    """Whether the token file of a split annotates what its raw form does.

    name (str): Dataset id; any other name has no editions.
    edition (str | None): Id; one that is not known is taken to.
    """
    known = with_demos().get(name)
    found = known.editions.get(edition) if known and edition else None
    return found is None or found.same_mentions(split)


@cache
def _load() -> tuple[dict[str, Dataset], list[Overlap]]:
    data = tomllib.loads(_FILE.read_text(encoding="utf8"))
    shared = [Overlap(**entry) for entry in data.pop("overlaps")]
    return {name: _dataset(name, entry) for name, entry in data.items()}, shared


def _dataset(name: str, entry: dict[str, Any]) -> Dataset:
    table3 = entry.pop("table3", None)
    return Dataset(
        id=name,
        sources=tuple(Source(**source) for source in entry.pop("sources")),
        editions={key: _edition(key, value) for key, value in entry.pop("editions").items()},
        table3=tuple(table3) if table3 else None,
        **entry,
    )


def _edition(name: str, entry: dict[str, Any]) -> Edition:
    splits = {key: SplitStatistics(**value) for key, value in entry.pop("splits", {}).items()}
    repeated = {key: tuple(value) for key, value in entry.pop("repeated", {}).items()}
    return Edition(id=name, splits=splits, repeated=repeated, **entry)
