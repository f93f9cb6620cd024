"""Everything that a card is made from."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ... import adapters, pretraining
from ...adapters import Adapter
from ...corpora import registry
from ...corpora.registry import Dataset, Edition
from ...errors import OpenMedError
from ...evaluation.ledger import TEST
from . import looks
from .looks import Looks
from .source import Place, Source

# What the package itself says of corpora and backbones.
REGISTRY = Source("spacy_openmed/corpora/registry.toml")
BACKBONES = Source("spacy_openmed/backbones.json")


class Kind(StrEnum):
    """What a file of figures is of."""

    RESULT = "result"
    ERRORS = "error analysis"
    ROBUSTNESS = "robustness"
    CROSS = "other corpus"


@dataclass(frozen=True)
class Material:
    """What is known of an adapter.

    adapter (Adapter): It.
    sha256 (str): Its hash.
    training (Source): The record of its training.
    results (Sequence[Source]): What ``spacy openmed evaluate`` measured, in the order given.
    errors, robustness, cross (Sequence[Source]): What other commands measured.
    not_used (Sequence[str]): Names of files beside the results that are not of this adapter, or
        not of the same data.
    looks (Looks | None): What the ledger says; None without one.
    """

    adapter: Adapter
    sha256: str
    training: Source
    results: Sequence[Source]
    errors: Sequence[Source]
    robustness: Sequence[Source]
    cross: Sequence[Source]
    not_used: Sequence[str]
    looks: Looks | None

    @property
    def record(self) -> dict[str, Any]:
        """What the record of the training says."""
        return self.training.content

    @property
    def dataset(self) -> Dataset | None:
        """The corpus, if it is one that the registry knows."""
        return registry.with_demos().get(self.adapter.info.dataset)

    @property
    def backbone(self) -> str:
        """Name of the backbone: of a folder the last part, for the rest says nothing to others."""
        return Path(self.adapter.info.backbone.id).name

    @property
    def edition(self) -> Edition | None:
        """The edition that was trained on."""
        return trained_on(self.adapter)

    @property
    def main(self) -> Source | None:
        """The result that counts: on test, else on dev, else on what there is."""
        return _main(self.results)

    @property
    def main_errors(self) -> Source | None:
        """The analysis that counts, see ``main``."""
        return _main(self.errors)

    @property
    def main_robustness(self) -> Source | None:
        """The measurement that counts, see ``main``."""
        return _main(self.robustness)

    @property
    def pretraining(self) -> Source | None:
        """The record of the pre-training that the adapter builds on, if it is at hand."""
        sha256 = self.record.get("init_adapter")
        if not sha256:
            return None
        found = self.adapter.pretraining
        if found is None or found.sha256 != sha256:
            try:
                found = pretraining.with_sha256(sha256, "")
            except OpenMedError:
                return None
        return Source(pretraining.RECORD, content=json.loads(found.files[pretraining.RECORD]))

    @property
    def files(self) -> list[Source]:
        """All that figures were taken from, but what the package has itself.

        Not the ledger, which grows: of that, each line has a hash.
        """
        return [self.training, *self.results, *self.errors, *self.robustness, *self.cross]


def gather(folder: Path, results: Sequence[Path], ledger: Path | None, base: str) -> Material:
    """Read what a card is made from.

    Beside a result, what other commands measured is looked for: ``<result>.errors.json``,
    ``robustness/<dataset>-<split>.json`` and ``cross/<dataset>-on-*.json``. What is there but
    not of this adapter and data is left out; what is given is refused then.

    folder (Path): Of the adapter, with ``training.json``.
    results (Sequence[Path]): JSON files of ``evaluate``, and of the others if they are
        elsewhere.
    ledger (Path | None): None for the one of the results' run, if it has one.
    base (str): See ``Place``.
    RAISES (OpenMedError): No record of the training, or a file that is not as it should be.
    """
    adapter = adapters.read(folder)
    if adapters.TRAINING not in adapter.card:
        raise OpenMedError(f"{folder} has no {adapters.TRAINING}: a card needs that record.")
    if not results:
        raise OpenMedError("A card needs a result: give the JSON file of 'spacy openmed evaluate'.")
    own = adapters.content_hash(adapter)
    root = results[0].parent
    place = Place(root, base)
    kinds: dict[Kind, list[Source]] = {kind: [] for kind in Kind}
    given = {path.resolve() for path in results}
    not_used: list[str] = []
    for path in results:
        source = place.read(path)
        _check(source, path, own, folder)
        kind = _kind(source.content, adapter.info.dataset, path)
        kinds[kind].append(source)
        if kind is not Kind.RESULT:
            continue
        for beside in _beside(path, source.content):
            if beside.resolve() in given:
                continue
            given.add(beside.resolve())
            other = place.read(beside)
            if _belongs(other.content, source.content):
                kinds[_kind(other.content, adapter.info.dataset, beside)].append(other)
            else:
                not_used.append(other.name)
    record = Place(folder, ".").read(folder / adapters.TRAINING)
    ledger = ledger or looks.find(root)
    return Material(
        adapter=adapter,
        sha256=own,
        training=record,
        results=kinds[Kind.RESULT],
        errors=kinds[Kind.ERRORS],
        robustness=kinds[Kind.ROBUSTNESS],
        cross=kinds[Kind.CROSS],
        not_used=not_used,
        looks=looks.read(ledger, own, place) if ledger else None,
    )


def trained_on(adapter: Adapter) -> Edition | None:
    """The edition of its dataset that an adapter was trained on, as its record has it."""
    if adapters.TRAINING not in adapter.card:
        return None
    data = json.loads(adapter.card[adapters.TRAINING]).get("data", {})
    return registry.edition_with(adapter.info.dataset, "train", data.get("train", ""))


def where(content: dict[str, Any]) -> str:
    """What a file is of: "test of `ncbi`", or the name of the user's file."""
    if "file" in content:
        return f"`{content['file']}`"
    return f"{content['split']} of `{content['dataset']}`"


def _main(sources: Sequence[Source]) -> Source | None:
    order = {TEST: 0, "dev": 1}
    return min(sources, key=lambda one: order.get(one.content.get("split", ""), 2), default=None)


def _check(source: Source, path: Path, own: str, folder: Path) -> None:
    measured = source.content.get("adapter")
    if measured != own:
        raise OpenMedError(
            f"{path} was measured on another adapter (sha256 {measured}) than the one in "
            f"{folder} ({own}). Evaluate this one."
        )


def _kind(content: dict[str, Any], dataset: str, path: Path) -> Kind:
    if "disturbed" in content:
        return Kind.ROBUSTNESS
    if "by_seen" in content:
        return Kind.ERRORS
    if "raw" not in content:
        raise OpenMedError(
            f"{path} has no figures that a card could show. Give what 'spacy openmed evaluate' "
            f"wrote with --json."
        )
    other = dataset and content.get("dataset", dataset) != dataset
    return Kind.CROSS if other else Kind.RESULT


def _beside(path: Path, result: dict[str, Any]) -> Iterator[Path]:
    candidates = [path.with_suffix(".errors.json")]
    if "file" not in result:
        name = result["dataset"]
        candidates.append(path.parent / "robustness" / f"{name}-{result['split']}.json")
        candidates += sorted((path.parent / "cross").glob(f"{glob.escape(name)}-on-*.json"))
    yield from (candidate for candidate in candidates if candidate.is_file())


def _belongs(other: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether a file is of the same adapter as a result, and of the same data if it should be."""
    same = ["adapter", "edges"] if "trained_on" in other else ["adapter", "edges", "data"]
    return all(other.get(key) == result.get(key) for key in same)
