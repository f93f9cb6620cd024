"""Measuring adapters: any on any split, and the chosen ones on dev, then once on test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import adapters
from ..about import __version__
from ..code_hash import code_sha256
from ..corpora import registry
from ..decoding import Decoded
from ..entities import Entity
from ..errors import OpenMedError
from ..files import check_writable, json_or_none, write_json
from ..packaging import cards
from ..predictor import Predictor
from . import errors, evaluate, ledger, predictions, select
from .calibration import of_predictions
from .ledger import PRECISION, TEST, Entry, Subject
from .predictions import Predictions
from .select import Chosen

Result = dict[str, Any]
MEASURED, THERE, RESTORED = "measured", "there already", "written again from the ledger"


@dataclass(frozen=True)
class ChosenResult:
    """A result of one of the chosen adapters.

    result (dict): As ``spacy openmed evaluate`` writes it.
    path (Path): Where it is.
    how (str): ``MEASURED``, ``THERE`` or ``RESTORED``.
    predictions (Path | None): What the figures were computed from; None where it is lost, as it
        is when a command was killed right after its look at test: the ledger keeps figures only.
    recorded (bool): Whether the ledger has it; always so for dev.
    unanalysed (str): Why there is no analysis of errors beside it, "" if there is.
    """

    result: Result
    path: Path
    how: str
    predictions: Path | None
    recorded: bool = True
    unanalysed: str = ""


@dataclass(frozen=True)
class Measured:
    """Figures, and what they were computed from.

    result (dict): As ``figures``'s, what ``describe`` gives, "calibration": "temperature", and
        the ``reliability`` "before" it and "after", or None where nothing was found; and
        "predictions": the sha256 of the file that holds them, whether or not it is kept.
    predictions (Predictions): Show and write nothing of a look at test before it is recorded.
    """

    result: Result
    predictions: Predictions


def look(
    folder: Path, dataset: str, split: str, corpus: Path, edges: str, precision: str = PRECISION
) -> Measured:
    """Both scores of an adapter on a split, with its predictions.

    precision (str): As ``Predictor.load`` takes it.
    RAISES (OpenMedError): Unknown dataset, no such files, or other entity types.
    """
    predictor = Predictor.load(folder, precision)
    adapters.verify_types(predictor.adapter, dataset, str(folder))
    at = evaluate.load(dataset, split, corpus)
    finds = _Thrice(predictor, edges)
    raw, conll = evaluate.find(finds, at)
    model = describe(predictor, edges)
    found = Predictions(
        dataset=dataset,
        split=split,
        data=at.data,
        adapter=model["adapter"],
        edges=edges,
        trained_on=adapters.trained_on(predictor.adapter),
        raw=raw,
        conll=conll,
    )
    result = {
        **evaluate.figures(at, raw, conll),
        "calibration": _calibration(finds, at),
        **model,
        "predictions": found.sha256,
    }
    return Measured(result, found)


class _Thrice:
    """Finds entities as the adapter does, and what it read, before and after calibration.

    What is carried to other places has the score of its source: calibration is of the rest.

    before, after (list[list[Entity]]): Of all texts so far, not carried, with scores at
        temperature 1 and at the adapter's.
    """

    def __init__(self, predictor: Predictor, edges: str) -> None:
        self.predictor = predictor
        self.edges = edges
        self.before: list[list[Entity]] = []
        self.after: list[list[Entity]] = []

    def __call__(self, texts: Sequence[str]) -> list[list[Entity]]:
        info = self.predictor.info
        decoded = Decoded(texts, *self.predictor.tag(texts), info.types, self.edges)
        self.before += decoded.entities()
        self.after += decoded.entities(info.temperature)
        return decoded.entities(info.temperature, consistency=info.consistency)


def _calibration(found: _Thrice, at: evaluate.Split) -> Result | None:
    """How far scores on raw text are off, before and after; None where nothing was found."""
    before, after = found.before[: len(at.raw)], found.after[: len(at.raw)]
    if not any(after):
        return None
    flatten = registry.flatten(at.dataset)
    gold = [flatten(document.entities) for document in at.raw]
    return {
        "temperature": found.predictor.info.temperature,
        "before": of_predictions(before, gold),
        "after": of_predictions(after, gold),
    }


def describe(predictor: Predictor, edges: str) -> Result:
    """What a result says of the model, and of the code that ran it.

    RETURNS (dict): "adapter" (its hash), "backbone", "edges", "precision", "spacy_openmed" and
        "code", see ``code_sha256``.
    """
    return {
        "adapter": adapters.content_hash(predictor.adapter),
        "backbone": predictor.adapter.info.backbone.to_dict(),
        "edges": edges,
        "precision": predictor.backbone.precision,
        "spacy_openmed": __version__,
        "code": code_sha256(),
    }


@dataclass(frozen=True)
class _Step:
    """A chosen adapter and a split that it is measured on."""

    chosen: Chosen
    subject: Subject
    edges: str
    path: Path

    def there(self) -> Result | None:
        """The result that an earlier run wrote, if it is of this adapter and data."""
        result = json_or_none(self.path)
        return result if result is not None and self._is_of(result) else None

    def recorded(self, ledger_path: Path) -> list[Entry]:
        """The ledger's entries of looks with this adapter at this data."""
        return ledger.read(ledger_path).looks_of(*self._model, self.subject.files)

    def restorable(self, ledger_path: Path) -> Result | None:
        """The result as the ledger has it; lines of earlier versions have only figures."""
        results = [entry.get("result") for entry in self.recorded(ledger_path)]
        return next((r for r in reversed(results) if isinstance(r, dict) and self._is_of(r)), None)

    @property
    def _model(self) -> tuple[str, str]:
        return self.chosen.sha256, self.edges

    def predictions(self, result: Result) -> Path | None:
        """The predictions that belong to a result, if they are there."""
        return predictions.of(result, self.path)

    def look(self, corpus: Path) -> Measured:
        """Measure."""
        return look(self.chosen.folder, self.chosen.dataset, self.subject.split, corpus, self.edges)

    def write(self, measured: Measured) -> ChosenResult:
        """Write predictions, then figures.

        The figures name their predictions: killed between the two, those of other figures are
        never taken for theirs.
        """
        kept = predictions.beside(self.path)
        predictions.write(measured.predictions, kept)
        write_json(self.path, measured.result)
        return ChosenResult(measured.result, self.path, MEASURED, kept)

    def _is_of(self, result: Result) -> bool:
        same_model = (result.get("adapter"), result.get("edges")) == self._model
        return (
            same_model
            and result.get("data") == self.subject.files
            and ledger.precision_of(result) == PRECISION
        )


def evaluate_chosen(
    selection: Path,
    results: Path,
    corpus: Path,
    ledger_path: Path,
    again: str | None = None,
    edges: str = "word",
) -> Iterator[ChosenResult]:
    """Measure every chosen adapter on dev, then once on test, and write its card.

    What is in ``results`` already, for the same adapter and data, stays; dev is measured again
    where its predictions are not there. A result on test that only the ledger has is taken from
    there: that is no further look, and its predictions are lost.

    selection (Path): From ``spacy openmed select``.
    results (Path): Folder; gets ``<dataset>-dev.json`` and ``<dataset>-test.json``, and beside
        each its predictions (``<dataset>-dev.predictions.jsonl``).
    corpus (Path): Folder with the prepared corpora.
    ledger_path (Path): The ledger.
    again (str | None): Why to look at test again, where it was looked at before.
    edges (str): "word" or "wordpiece".
    YIELDS (ChosenResult): Dev and test of each dataset, when they are on disk.
    RAISES (OpenMedError): Before anything is measured: an adapter is not the chosen one, a
        corpus is missing, test of a dataset was looked at before and no reason is given, or
        nothing can be written to ``results``.
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
    # What is measured on test and cannot be written would be a look for nothing.
    for step in (step for both in steps for step in both if step.there() is None):
        check_writable(step.path)
        check_writable(predictions.beside(step.path))
    for dev, test in steps:
        both = [_analysed(_dev(dev, corpus), corpus)]
        yield both[0]
        both.append(_analysed(_test(test, corpus, ledger_path, again), corpus))
        # One that is of these figures stays: it may have been written with more than they say.
        if any(one.how != THERE for one in both) or not _has_card(test.chosen):
            looks = ledger_path if ledger_path.is_file() else None
            cards.write_card(test.chosen.folder, [dev.path, test.path], looks)
        yield both[1]


def _has_card(chosen: Chosen) -> bool:
    path = chosen.folder / adapters.CARD
    return path.is_file() and chosen.sha256 in path.read_text(encoding="utf8")


def _analysed(outcome: ChosenResult, corpus: Path) -> ChosenResult:
    """Write the analysis of errors beside a result.

    Here, and not by the report, which would change what it is made of.
    """
    if outcome.predictions is None:
        return replace(outcome, unanalysed="the predictions are lost")
    try:
        found = errors.analyse_file(outcome.predictions, corpus)
    except OpenMedError as error:
        return replace(outcome, unanalysed=str(error))
    write_json(errors.beside(outcome.path), found)
    return outcome


def _dev(step: _Step, corpus: Path) -> ChosenResult:
    if (result := step.there()) is not None and (kept := step.predictions(result)) is not None:
        return ChosenResult(result, step.path, THERE, kept)
    return step.write(step.look(corpus))


def _test(step: _Step, corpus: Path, ledger_path: Path, again: str | None) -> ChosenResult:
    if (result := step.there()) is not None:
        recorded = bool(step.recorded(ledger_path))
        return ChosenResult(result, step.path, THERE, step.predictions(result), recorded)
    if (result := step.restorable(ledger_path)) is not None:
        write_json(step.path, result)
        # They are there if the command was killed between writing them and the figures.
        return ChosenResult(result, step.path, RESTORED, step.predictions(result))
    # A run may take hours between the plan and this.
    ledger.check(ledger_path, step.subject, again)
    measured = step.look(corpus)
    # Predictions of a look that nobody recorded would let figures be computed from it.
    ledger.record(ledger_path, step.subject, measured.result, again)
    return step.write(measured)
