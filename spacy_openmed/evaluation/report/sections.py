"""The report as sections, in order."""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from . import of_errors, of_recipe, of_results
from .cells import ABSENT
from .parts import Bullets, Figure, Part, Section, Table

Row = dict[str, Any]


def head(report: Row) -> str:
    """What the report is of, in two sentences."""
    return (
        f"Datasets: {', '.join(report['datasets']) or 'none'}. Backbones: "
        f"{', '.join(report['backbones']) or 'none'}. Made with spacy-openmed "
        f"{report['spacy_openmed']}. Scores are exact match of span and label, in percent; "
        f"differences are in points. {ABSENT}: not known."
    )


def sections(report: Row, plots: Iterable[str] = ()) -> list[Section]:
    """All sections that have something in them.

    report (dict): From ``collect``.
    plots (Iterable[str]): Names of the plots that were drawn.
    """
    drawn = set(plots)
    found = []
    for title, make in _SECTIONS:
        parts = make(report)
        shown = [part for part in parts if _is_there(part, drawn)]
        # A note or a list alone says nothing, but where a section is meant to be one.
        if any(isinstance(part, Table) for part in shown) or not any(
            isinstance(part, Table) for part in parts
        ):
            found.append(Section(title, shown))
    return found


def _is_there(part: Part, drawn: Set[str]) -> bool:
    match part:
        case Table():
            return bool(part.rows)
        case Bullets():
            return bool(part.items)
        case Figure():
            return part.name in drawn
    return True


def _warnings(report: Row) -> list[Part]:
    return [_sentences(report["warnings"], "Nothing was found.")]


def _missing(report: Row) -> list[Part]:
    return [_sentences(report["missing"], "Nothing.")]


def _sentences(sentences: Sequence[str], none: str) -> Bullets:
    return Bullets([f"{sentence}." for sentence in sentences] or [none])


_SECTIONS: Sequence[tuple[str, Callable[[Row], list[Part]]]] = (
    ("Results", of_results.results),
    ("What lessens these figures", _warnings),
    ("What is missing", _missing),
    ("Scores", of_results.scores),
    ("Labels", of_results.labels),
    ("Errors", of_errors.errors),
    ("Bias", of_errors.bias),
    ("Calibration", of_results.calibration),
    ("Robustness", of_results.robustness),
    ("Other corpora", of_results.cross),
    ("Seeds", of_results.seeds),
    ("Other systems", of_results.systems),
    ("Looks at test", of_recipe.looks),
    ("Selection", of_recipe.selection),
    ("Search", of_recipe.searches),
    ("Fine-tuning", of_recipe.fine_tuning),
    ("Pre-training", of_recipe.pretraining),
    ("Energy", of_recipe.energy),
    ("Hashes", of_recipe.hashes),
)
