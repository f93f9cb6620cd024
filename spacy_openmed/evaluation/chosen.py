"""Measuring adapters: any on any split, and the chosen ones on dev, then once on test."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import adapters
from ..files import write_json
from ..packaging import cards
from ..predictor import Predictor
from . import ledger, select
from .evaluate import evaluate
from .ledger import TEST, Entry, Subject
from .select import Chosen

Result = dict[str, Any]
MEASURED, THERE, RESTORED = "measured", "there already", "written again from the ledger"


@dataclass(frozen=True)
class Outcome:
    """A result of one of the chosen adapters.

    result (dict): As ``spacy openmed evaluate`` writes it.
    path (Path): Where it is.
    how (str): ``MEASURED``, ``THERE`` or ``RESTORED``.
    recorded (bool): Whether the ledger has it; always so for dev.
    """

    result: Result
    path: Path
    how: str
    recorded: bool = True


def measure(folder: Path, dataset: str, split: str, corpus: Path, edges: str) -> Result:
    """Both scores of an adapter on a split.

    RETURNS (dict): As ``evaluate``'s, and what ``describe`` gives.
    RAISES (OpenMedError): Unknown dataset, no such files, or other entity types.
    """
    predictor = Predictor.load(folder)
    adapters.verify_types(predictor.adapter, dataset, str(folder))
    result = evaluate(partial(predictor, edges=edges), dataset, split, corpus)
    return {**result, **describe(predictor, edges)}


def describe(predictor: Predictor, edges: str) -> Result:
    """What a result says of the model: "adapter" (its hash), "backbone", "edges"."""
    return {
        "adapter": adapters.content_hash(predictor.adapter),
        "backbone": predictor.adapter.info.backbone.to_dict(),
        "edges": edges,
    }


def write(result: Result, path: Path) -> None:
    """Write a result as JSON, whole or not at all."""
    write_json(path, result)


@dataclass(frozen=True)
class _Step:
    """A chosen adapter and a split that it is measured on."""

    chosen: Chosen
    subject: Subject
    edges: str
    path: Path

    def there(self) -> Result | None:
        """The result that an earlier run wrote, if it is of this adapter and data."""
        try:
            result = json.loads(self.path.read_text(encoding="utf8"))
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) and self._is_of(result) else None

    def recorded(self, ledger_path: Path) -> list[Entry]:
        """The ledger's entries of looks with this adapter at this data."""
        looks = ledger.read(ledger_path).looks(self.subject)
        return [e for e in looks if (e.get("adapter"), e.get("edges")) == self._model]

    def restorable(self, ledger_path: Path) -> Result | None:
        """The result as the ledger has it; lines of earlier versions have only figures."""
        results = [entry.get("result") for entry in self.recorded(ledger_path)]
        return next((r for r in reversed(results) if isinstance(r, dict) and self._is_of(r)), None)

    @property
    def _model(self) -> tuple[str, str]:
        return self.chosen.sha256, self.edges

    def _is_of(self, result: Result) -> bool:
        same_model = (result.get("adapter"), result.get("edges")) == self._model
        return same_model and result.get("data") == self.subject.files


def evaluate_chosen(
    selection: Path,
    results: Path,
    corpus: Path,
    ledger_path: Path,
    again: str | None = None,
    edges: str = "word",
) -> Iterator[Outcome]:
    """Measure every chosen adapter on dev, then once on test, and write its card.

    What is in ``results`` already, for the same adapter and data, stays. A result on test that
    only the ledger has is taken from there: that is no further look.

    selection (Path): From ``spacy openmed select``.
    results (Path): Folder; gets ``<dataset>-dev.json`` and ``<dataset>-test.json``.
    corpus (Path): Folder with the prepared corpora.
    ledger_path (Path): The ledger.
    again (str | None): Why to look at test again, where it was looked at before.
    edges (str): "word" or "wordpiece".
    YIELDS (Outcome): Dev and test of each dataset, when they are on disk.
    RAISES (OpenMedError): Before anything is measured: an adapter is not the chosen one, a
        corpus is missing, or test of a dataset was looked at before and no reason is given.
    """
    steps = []
    for one in select.read(selection):
        adapters.verify_types(one.read(), one.dataset, str(one.folder))
        dev, test = (
            _Step(
                one,
                ledger.subject(corpus, one.dataset, split),
                edges,
                results / f"{one.dataset}-{split}.json",
            )
            for split in ("dev", TEST)
        )
        if test.there() is None and test.restorable(ledger_path) is None:
            ledger.check(ledger_path, test.subject, again)
        steps.append((dev, test))
    for dev, test in steps:
        yield _dev(dev, corpus)
        outcome = _test(test, corpus, ledger_path, again)
        cards.write_card(test.chosen.folder, [dev.path, test.path])
        yield outcome


def _dev(step: _Step, corpus: Path) -> Outcome:
    if (result := step.there()) is not None:
        return Outcome(result, step.path, THERE)
    result = measure(step.chosen.folder, step.chosen.dataset, "dev", corpus, step.edges)
    write(result, step.path)
    return Outcome(result, step.path, MEASURED)


def _test(step: _Step, corpus: Path, ledger_path: Path, again: str | None) -> Outcome:
    if (result := step.there()) is not None:
        return Outcome(result, step.path, THERE, recorded=bool(step.recorded(ledger_path)))
    if (result := step.restorable(ledger_path)) is not None:
        write(result, step.path)
        return Outcome(result, step.path, RESTORED)
    # A run may take hours between the plan and this.
    ledger.check(ledger_path, step.subject, again)
    result = measure(step.chosen.folder, step.chosen.dataset, TEST, corpus, step.edges)
    ledger.record(ledger_path, step.subject, result, again)
    write(result, step.path)
    return Outcome(result, step.path, MEASURED)
