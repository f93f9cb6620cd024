"""Sections on how good the adapters are."""

from collections.abc import Sequence
from typing import Any

from . import cells
from .cells import ABSENT
from .further import best_split
from .parts import Bullets, Cell, Code, Figure, Link, Part, Table, Text

Row = dict[str, Any]


def results(report: Row) -> list[Part]:
    """The main table, a plot of it, and how to read it."""
    sources: list[Cell] = [
        (f"{one['what']} ({', '.join(one['datasets'])}): ", Link(one["url"], one["url"]))
        for one in report["sources"]
    ]
    parts: list[Part] = [main_table(report), Figure("f1"), Bullets(_HOW_TO_READ)]
    if sources:
        parts += [Text("Published figures are from:"), Bullets(sources)]
    return parts


_HOW_TO_READ: Sequence[Cell] = (
    "CoNLL F1 counts on the corpus's own tokens, as the literature does; raw F1 on characters of "
    "the raw text, what a user gets. In square brackets: the 95 % interval, by bootstrap over "
    "documents.",
    "Unseen: mentions that were not annotated with the same words and label in training, that of "
    "adapters included that it went on from.",
    "OpenMed NER, closed-source and scispaCy: as published, with how far ours is ahead, by CoNLL "
    "F1, in round brackets. Leads: which of the first two the paper has ahead.",
    (
        "spaCy ",
        Code("ner"),
        ": trained here on the same split. p: how probable so large a difference is if the two "
        "are alike, by approximate randomization over documents.",
    ),
    (
        Code("bc5cdr"),
        ": the adapters of its two types together, from the sums of their counts.",
    ),
    "A part: only a part of the corpus is at hand; it is not compared with published figures.",
    "Without CoNLL F1: the token file at hand annotates other mentions than the raw form, so that "
    "CoNLL F1, which is among all the scores below, says little; raw F1 is compared, and the "
    "corpus is not in the mean.",
)


def main_table(report: Row) -> Table:
    """The chosen adapters on test, beside what others report.

    report (dict): From ``collect``.
    """
    rows: list[Sequence[Cell]] = [
        [
            _main_name(row),
            cells.with_interval(row["conll"]),
            cells.with_interval(row["raw"]),
            _unseen(row["unseen"]),
            _beside(row["published"]["openmed"], row["to_openmed"]),
            _beside(row["published"]["closed"], row["to_closed"]),
            _leader(row["published"]),
            _beside_ner(row["spacy_ner"]),
            cells.probability(cells.get(row["spacy_ner"], "p")),
            _beside(row["published"]["scispacy"], row["to_scispacy"]),
        ]
        for row in report["main"]
    ]
    if (mean := report["mean"]) and mean["datasets"] > 1:
        ner = mean["spacy_ner"]
        rows.append(
            [
                f"mean of {mean['datasets']} corpora",
                cells.number(mean["conll_f1"], 2),
                cells.number(mean["raw_f1"], 2),
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                _beside(cells.get(ner, "f1"), cells.get(ner, "difference"))
                + (f", of {ner['datasets']}" if ner and ner["datasets"] < mean["datasets"] else ""),
                ABSENT,
                ABSENT,
            ]
        )
    heads: list[Cell] = [
        *("dataset", "CoNLL F1", "raw F1", "recall, unseen", "OpenMed NER"),
        *("closed-source", "leads", ("spaCy ", Code("ner")), "p", "scispaCy"),
    ]
    return Table("Chosen adapters on test", heads, rows)


def _main_name(row: Row) -> Cell:
    if row["together"]:
        return (Code(row["dataset"]), " (both types)")
    return cells.dataset(row)


def _unseen(found: Row | None) -> str:
    if not found:
        return ABSENT
    return f"{cells.number(found['recall'], 1)} (of {found['mentions']:,})"


def _beside(theirs: float | None, difference: float | None) -> str:
    if theirs is None:
        return ABSENT
    return cells.number(theirs, 2) + (
        "" if difference is None else f" ({cells.number(difference, 2, '+')})"
    )


def _beside_ner(found: Row | None) -> str:
    shown = _beside(cells.get(found, "f1"), cells.get(found, "difference"))
    return f"{shown}, raw" if found and found["on"] == "raw" else shown


def _leader(published: Row) -> str:
    if not published["leader"]:
        return ABSENT
    ahead = published["ahead"]
    if ahead is None:
        return str(published["leader"])
    by = f"over {ahead:g}" if published["at_least"] else f"{ahead:.2f}"
    return f"{published['leader']}, by {by}"


def scores(report: Row) -> list[Part]:
    """Of the chosen adapters by split, and dev against test."""
    rows: list[Sequence[Cell]] = [
        [cells.dataset(row), row["split"], kind, *cells.prf(row[kind])]
        for row in report["results"]
        for kind in ("raw", "conll")
        if row[kind]
    ]
    note = (
        'Of the chosen adapters. "raw": characters of the raw text; "conll": the corpus\'s own '
        "tokens. Epochs and settings were chosen on dev, which flatters the figures on dev."
    )
    table = Table("Scores by split", ["dataset", "split", "scored on", *cells.PRF], rows)
    return [Text(note), table, _dev_and_test(report), Figure("dev-test")]


def _dev_and_test(report: Row) -> Table:
    by_key = {(row["dataset"], row["split"]): row for row in report["results"]}
    rows: list[Sequence[Cell]] = []
    for name in report["datasets"]:
        dev, test = (by_key.get((name, split)) for split in ("dev", "test"))
        if dev and test:
            both = [_change(dev[kind], test[kind]) for kind in ("raw", "conll")]
            rows.append([cells.dataset(test), *both[0], *both[1]])
    heads = [f"{kind}, {what}" for kind in ("raw", "conll") for what in ("dev", "test", "change")]
    return Table("Dev against test, F1", ["dataset", *heads], rows)


def _change(dev: Row | None, test: Row | None) -> list[str]:
    pair = [cells.get(score, "f1") for score in (dev, test)]
    change = None if None in pair else pair[1] - pair[0]
    return [*(cells.number(f1, 2) for f1 in pair), cells.number(change, 2, "+")]


def labels(report: Row) -> list[Part]:
    """Scores of each label."""
    rows: list[Sequence[Cell]] = [
        [cells.dataset(row), row["split"], label, *cells.prf(score)]
        for row in report["results"]
        if row["raw"]
        for label, score in row["raw"]["per_label"].items()
    ]
    return [Table("Scores by label, raw text", ["dataset", "split", "label", *cells.PRF], rows)]


def calibration(report: Row) -> list[Part]:
    """How far scores are from how often they are right."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            row["split"],
            cells.count(row["found"]),
            cells.count(row["after"]["entities"]),
            cells.number(row["temperature"], 3),
            *(cells.number(100 * row[when]["ece"], 2) for when in ("before", "after")),
            *(cells.number(row[when]["brier"], 4) for when in ("before", "after")),
        ]
        for row in best_split(report["calibrations"])
    ]
    heads = ["dataset", "split", "found", "counted", "temperature"]
    heads += ["ECE before", "ECE after", "Brier before", "Brier after"]
    note = (
        "How far scores are from how often they are right: the expected calibration error (ECE, "
        "in percent, 10 bins) and the Brier score, before and after logits are divided by the "
        "temperature, which was fitted on dev; 1 if it was not. Raw text. A mention that was "
        "carried to the same words elsewhere has the score of its source, and is not counted."
    )
    return [Text(note), Table("Calibration", heads, rows), Figure("reliability")]


def robustness(report: Row) -> list[Part]:
    """What disturbances of the text cost."""
    found = best_split(report["robustness"])
    about = {one["name"]: one["about"] for row in found for one in row["disturbed"]}
    rows: list[Sequence[Cell]] = []
    for row in found:
        lost = {one["name"]: one for one in row["disturbed"]}
        rows.append(
            [
                Code(row["dataset"]),
                row["split"],
                cells.number(row["clean_f1"], 2),
                *(_lost(lost.get(name)) for name in about),
            ]
        )
    return [
        Text("F1 lost, in points, when the text is put into another form. Raw text."),
        Table("F1 lost per disturbance", ["dataset", "split", "F1", *about], rows),
        Bullets([f"{name}: {sentence}" for name, sentence in about.items() if sentence]),
    ]


def _lost(one: Row | None) -> str:
    return ABSENT if one is None else cells.number(one["lost"], 2) + cells.interval(one["lost_ci"])


def cross(report: Row) -> list[Part]:
    """Adapters on the corpora of others."""
    rows: list[Sequence[Cell]] = [
        [
            _after(row),
            Code(row["dataset"]),
            row["split"],
            cells.with_interval({"f1_ci": None, **row["raw"]}),
            cells.number(row["own_f1"], 2),
            cells.number(row["lost"], 2),
            ABSENT if row["shared"] is None else row["shared"],
            cells.number(row["f1_without"], 2),
        ]
        for row in report["cross"]
    ]
    heads = ["trained on", "evaluated on", "split", "F1", "F1 of its own adapter", "lost"]
    heads += ["documents shared with train", "F1 without these"]
    reasons = dict.fromkeys(row["reason"] for row in report["cross"] if row["reason"])
    return [
        Text("Another corpus has other texts and other rules; both lower the figures. Raw text."),
        Table("Adapters on other corpora", heads, rows),
        Bullets(list(reasons)),
    ]


def _after(row: Row) -> Cell:
    """What an adapter was trained on; if it had seen others before, these too."""
    names = [Code(name) for name in (row["trained_on"], *row["after"])]
    return tuple([piece for name in names for piece in (", after ", name)][1:])


def seeds(report: Row) -> list[Part]:
    """How much F1 varies with the seed."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            row["split"],
            row["runs"],
            ", ".join(cells.number(f1, 2) for f1 in row["raw_f1"]),
            f"{row['mean']:.2f} ± {row['deviation']:.2f}",
        ]
        for row in report["seeds"]
    ]
    heads = ["dataset", "split", "runs", "raw F1 of each", "mean ± standard deviation"]
    first = ", the chosen run first" if all(row["chosen"] for row in report["seeds"]) else ""
    return [Table(f"Spread over seeds{first}", heads, rows)]


def systems(report: Row) -> list[Part]:
    """Other systems on the same splits."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["system"]),
            row["version"] or ABSENT,
            Code(row["dataset"]),
            row["split"],
            cells.with_interval(row["raw"] and {"f1_ci": None, **row["raw"]}),
            cells.with_interval(row["conll"] and {"f1_ci": None, **row["conll"]}),
            _ours_minus_theirs(row),
            cells.probability(row["p"]),
            cells.minutes(row),
        ]
        for row in report["systems"]
    ]
    heads = ["system", "version", "dataset", "split", "raw F1", "CoNLL F1", "ours minus theirs"]
    return [Table("Other systems on the same splits", [*heads, "p", "minutes"], rows)]


def _ours_minus_theirs(row: Row) -> str:
    difference = cells.number(row["difference"], 2, "+") + cells.interval(row["difference_ci"])
    return f"{difference}, raw" if row["on"] == "raw" else difference
