"""Sections on the errors that the adapters make."""

from collections.abc import Sequence
from typing import Any

from ..errors import FREQUENCIES, LENGTHS, OF_GOLD, SEEN, UNSEEN, Outcome
from . import cells
from .cells import ABSENT
from .files import FEWEST_DOCUMENTS, at
from .further import best_split
from .parts import Cell, Code, Figure, Part, Table, Text

Row = dict[str, Any]


_OUTCOMES = {
    Outcome.CORRECT: "right",
    Outcome.WRONG_TYPE: "wrong type",
    Outcome.TOO_LONG: "too long",
    Outcome.TOO_SHORT: "too short",
    Outcome.SHIFTED: "shifted",
    Outcome.WRONG_BOUNDARY_AND_TYPE: "boundary and type",
    Outcome.MISSED: "missed",
    Outcome.SPURIOUS: "spurious",
}
_OUTCOME_HEADS = ["mentions", *(_OUTCOMES[one] for one in OF_GOLD), "spurious"]


def errors(report: Row) -> list[Part]:
    """What became of annotated mentions and of predictions."""
    found = best_split(report["errors"])
    return [
        Text(
            "Every annotated mention and every prediction has one outcome; a mention that was "
            "found with another boundary or type counts as such, not as missed. On raw text."
        ),
        _outcomes(found),
        _seen(found),
        _by_bin("Recall and number of mentions, by length in words", found, "by_length", LENGTHS),
        _outcomes_by_label(found),
        _confusions(found),
    ]


def _outcomes(found: Sequence[Row]) -> Table:
    rows: list[Sequence[Cell]] = [
        [Code(row["dataset"]), row["split"], *_outcome_cells(row["overall"])] for row in found
    ]
    return Table("Outcomes", ["dataset", "split", *_OUTCOME_HEADS], rows)


def _outcome_cells(found: Row) -> list[Cell]:
    gold, predicted = found["gold"], found["predicted"]
    counts = [gold["outcomes"][one.value] for one in OF_GOLD]
    return [gold["mentions"], *counts, predicted["outcomes"][Outcome.SPURIOUS.value]]


def _outcomes_by_label(found: Sequence[Row]) -> Table:
    rows: list[Sequence[Cell]] = [
        [Code(row["dataset"]), label, *_outcome_cells(one)]
        for row in found
        if len(row["by_label"]) > 1
        for label, one in row["by_label"].items()
    ]
    return Table("Outcomes by label", ["dataset", "label", *_OUTCOME_HEADS], rows)


def _seen(found: Sequence[Row]) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            row["split"],
            *(
                cell
                for name in (SEEN, UNSEEN)
                for cell in (
                    row["by_seen"][name]["gold"]["mentions"],
                    cells.number(row["by_seen"][name]["gold"]["recall"], 1),
                    cells.number(row["by_seen"][name]["predicted"]["precision"], 1),
                )
            ),
        ]
        for row in found
        if row["by_seen"]
    ]
    heads = [f"{name}: {what}" for name in (SEEN, UNSEEN) for what in ("mentions", "R", "P")]
    return Table("Mentions seen and not seen in training", ["dataset", "split", *heads], rows)


def _by_bin(title: str, found: Sequence[Row], key: str, names: Sequence[str]) -> Table:
    rows: list[Sequence[Cell]] = [
        [Code(row["dataset"]), row["split"], *(_recall(row[key][name]) for name in names)]
        for row in found
    ]
    return Table(title, ["dataset", "split", *names], rows)


def _recall(one: Row) -> str:
    gold = one["gold"]
    return f"{cells.number(gold['recall'], 1)} ({gold['mentions']:,})"


# Beyond these a table of confused types is longer than it is read.
_MOST_CONFUSED = 10


def _confusions(found: Sequence[Row]) -> Table:
    rows: list[Sequence[Cell]] = []
    for row in found:
        confused = sorted(
            (-count, gold, predicted)
            for gold, counts in row["types"].items()
            for predicted, count in counts.items()
            if gold != predicted
        )
        for count, gold, predicted in confused[:_MOST_CONFUSED]:
            mentions = at(row["by_label"], gold, "gold", "mentions")
            share = f"{-100 * count / mentions:.1f} %" if mentions else ABSENT
            rows.append([Code(row["dataset"]), gold, predicted, -count, share])
    heads = ["dataset", "annotated", "found", "count", "of the annotated"]
    return Table(f"Types taken for others, the {_MOST_CONFUSED} most frequent", heads, rows)


def bias(report: Row) -> list[Part]:
    """Whom the errors may hit: recall by frequency, and figures by source and by corpus."""
    found = best_split(report["errors"])
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            row["split"],
            *(_recall(row["by_frequency"][name]) for name in FREQUENCIES),
            cells.number(_gap(row["by_frequency"]), 1),
        ]
        for row in found
        if row["by_frequency"]
    ]
    heads = ["dataset", "split", *(f"{name} times" for name in FREQUENCIES), "10+ over 0"]
    return [
        Text(
            "Recall, and number of mentions, by how often the same words were annotated in "
            "training. Where it is lower on the left, rare diseases, new substances and "
            "little-studied species are missed more often than well-known ones. Below it figures "
            "by where text is from: of one corpus, as far as the ids of its documents tell, and of "
            "the same label in several corpora, whose sources and rules differ."
        ),
        Table("Recall by frequency in training", heads, rows),
        Figure("recall-by-frequency"),
        _by_source(found),
        _by_corpus(report),
    ]


def _gap(bins: Row) -> float | None:
    rare, frequent = (bins[name]["gold"]["recall"] for name in (FREQUENCIES[0], FREQUENCIES[-1]))
    return None if None in (rare, frequent) else frequent - rare


def _by_source(found: Sequence[Row]) -> Table:
    rows: list[Sequence[Cell]] = []
    for row in found:
        for source, score in (row.get("by_source") or {}).items():
            precision, recall, _, mentions = cells.prf(score)
            ends = score["f1_ci"] if score["documents"] >= FEWEST_DOCUMENTS else None
            f1 = cells.number(score["f1"], 2) + cells.interval(ends)
            figures = [precision, recall, f1, mentions]
            rows.append([Code(row["dataset"]), row["split"], source, score["documents"], *figures])
    heads = ["dataset", "split", "source", "documents", *cells.PRF]
    return Table("By source, raw text", heads, rows)


def _by_corpus(report: Row) -> Table:
    found = [row for row in best_split(report["results"]) if row["raw"]]
    by_label: dict[str, list[Sequence[Cell]]] = {}
    for row in found:
        for label, score in row["raw"]["per_label"].items():
            row_cells = [label, cells.dataset(row), row["split"], *cells.prf(score)]
            by_label.setdefault(label, []).append(row_cells)
    rows = [
        one for label in sorted(by_label) if len(by_label[label]) > 1 for one in by_label[label]
    ]
    return Table("The same label by corpus", ["label", "dataset", "split", *cells.PRF], rows)
