"""Sections on how the adapters were made and chosen, and what that cost."""

from collections.abc import Sequence
from typing import Any

from ...packaging.cards import energy_facts
from . import cells, recipe
from .cells import ABSENT
from .parts import Bullets, Cell, Code, Link, Part, Piece, Strong, Table, Text

Row = dict[str, Any]


def looks(report: Row) -> list[Part]:
    """Every look at test."""
    rows: list[Sequence[Cell]] = [
        [
            Code(look["dataset"]),
            Strong(str(look["look"])) if look["look"] > 1 else 1,
            look["time"] or ABSENT,
            Code(look["adapter"]) if look["adapter"] else ABSENT,
            cells.number(look["raw_f1"], 2),
            cells.number(look["conll_f1"], 2),
            look["reason"] or "",
        ]
        for look in report["looks"]
    ]
    heads = ["dataset", "look", "when", "adapter", "raw F1", "conll F1", "why again"]
    return [Table("Looks at test, as the ledger has them", heads, rows)]


def selection(report: Row) -> list[Part]:
    """What the adapters were chosen from."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            Code(row["backbone"]),
            cells.number(row["dev_f1"], 2),
            cells.count(row["parameters"]),
            "chosen" if row["chosen"] else "",
        ]
        for row in report["candidates"]
    ]
    return [
        Text("By raw F1 on dev; between equals the smaller model."),
        Table("Candidates", ["dataset", "backbone", "dev F1", "parameters", ""], rows),
    ]


def searches(report: Row) -> list[Part]:
    """What each search found."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["dataset"]),
            Code(row["backbone"]),
            f"{row['finished']} ({row['pruned']} pruned)",
            row["failed"],
            f"{cells.percent(row['train_share'])}, {cells.percent(row['dev_share'])}",
            cells.number(row["defaults_dev_f1"], 2),
            cells.number(row["best_dev_f1"], 2),
            cells.number(row["gain"], 2, "+"),
            cells.minutes(row),
            *cells.energy(row),
        ]
        for row in report["searches"]
    ]
    heads = ["dataset", "backbone", "trials", "failed", "of train, dev"]
    heads += ["defaults", "best", "gain", "minutes", *cells.ENERGY]
    note = (
        "F1 on dev. The best of many trials was chosen on the dev data that it is measured on: "
        "the gain is an upper bound."
    )
    best = [
        (*_on(row), ", ".join(f"{key} {_setting(value)}" for key, value in row["best"].items()))
        for row in report["searches"]
        if row["best"]
    ]
    plots = [
        (*_on(row), *_between([_link(report["runs"], path) for path in row["plots"]]))
        for row in report["searches"]
        if row["plots"]
    ]
    parts: list[Part] = [Text(note), Table("Searches", heads, rows)]
    for title, items in (("The best settings:", best), ("Plots:", plots)):
        parts += [Text(title), Bullets(items)] if items else []
    return parts


def _on(row: Row) -> tuple[Piece, ...]:
    return Code(row["dataset"]), " on ", Code(row["backbone"]), ": "


def _between(links: Sequence[Piece]) -> list[Piece]:
    return [piece for link in links for piece in (", ", link)][1:]


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _link(runs: str, path: str) -> Link:
    name = path.rpartition("/")[2].rpartition(".")[0].replace("_", " ")
    return Link(name, f"{runs}/{path}")


def fine_tuning(report: Row) -> list[Part]:
    """The adapters, their size and what training them cost."""
    rows: list[Sequence[Cell]] = [
        [
            cells.dataset(row),
            Code(row["backbone"]),
            cells.number((row["dev"] or {}).get("f1"), 2),
            cells.count(row["trainable_parameters"]),
            cells.number(None if row["bytes"] is None else row["bytes"] / 1e6, 2),
            row["epochs"] or ABSENT,
            *_cost(row),
        ]
        for row in report["trained"]
    ]
    heads = ["dataset", "backbone", "dev F1", "trainable parameters", "adapter, MB", "epochs"]
    table = Table("Adapters", [*heads, "minutes", *cells.ENERGY], rows)
    if any(_is_in_part(row) for row in report["trained"]):
        return [table, Text(_IN_PART)]
    return [table]


_IN_PART = (
    "*: without the runs that made the adapter that it went on from, or without some of them: its "
    "record does not have their time and energy. Of a mean, runs that are parts of it are counted, "
    "whether or not another part went on from them."
)


def _is_in_part(row: Row) -> bool:
    return row["earlier"] is not None and not row["earlier"]["whole"]


def _cost(row: Row) -> list[str]:
    """Minutes and energy of an adapter's runs and of those before them, as far as is known."""
    runs = [row, *(row["earlier"] or {"runs": []})["runs"]]
    spent: list[list[float | None]] = [
        [one["seconds"] and one["seconds"] / 60, *cells.amounts(one)] for one in runs
    ]
    sums = [
        None if column[0] is None else sum(filter(None, column))
        for column in zip(*spent, strict=True)
    ]
    shown = [cells.number(sums[0], 1), *(cells.amount(one) for one in sums[1:])]
    return [f"{one} *" if _is_in_part(row) and one != ABSENT else one for one in shown]


def pretraining(report: Row) -> list[Part]:
    """The pre-training adapters, and what they bring."""
    rows: list[Sequence[Cell]] = [
        [
            Code(row["backbone"]),
            cells.number(row["perplexity_before"], 2),
            cells.number(row["perplexity_after"], 2),
            f"{cells.number(row['fall'], 1)} %{cells.interval(row['fall_ci'])}",
            cells.count(row["trainable_parameters"]),
            cells.count(row["updates"]),
            cells.minutes(row),
            *cells.energy(row),
        ]
        for row in report["pretraining"]
    ]
    heads = ["backbone", "before", "after", "fall", "LoRA parameters", "updates", "minutes"]
    return [
        Text("Perplexity of hidden wordpieces in text that was not trained on."),
        Table("Pre-training adapters", [*heads, *cells.ENERGY], rows),
        *_ablation(report["ablation"]),
    ]


def _ablation(found: Sequence[Row]) -> list[Part]:
    if not found:
        return []
    corpora = list(found[0]["f1"])
    rows: list[Sequence[Cell]] = [
        [
            row["pretraining"],
            row["method"],
            *(cells.number(row["f1"][name], 2) for name in corpora),
            cells.number(row["mean"], 2)
            + ("" if row["deviation"] is None else f" ± {row['deviation']:.2f}"),
        ]
        for row in found
    ]
    heads: list[Cell] = ["pre-training", "fine-tuned", *(Code(name) for name in corpora), "mean"]
    return [
        Text("What it brings: F1 on dev after training on a part of each corpus, over seeds."),
        Table("With and without pre-training", heads, rows),
    ]


def energy(report: Row) -> list[Part]:
    """Of all steps together."""
    facts = energy_facts({"energy": report["energy"]})
    rows: list[Sequence[Cell]] = [list(fact) for fact in facts.items()]
    title = "Of every step that recorded its energy, together"
    return [Table(title, ["", ""], rows)]


def hashes(report: Row) -> list[Part]:
    """Of backbones, adapters and data."""
    rows: list[Sequence[Cell]] = []
    for name in report["backbones"]:
        for digest in recipe.hashes(report, name):
            rows.append([("backbone ", Code(name)), Code(digest)])
    for row in report["pretraining"]:
        if row["sha256"]:
            rows.append([("pre-training adapter for ", Code(row["backbone"])), Code(row["sha256"])])
    for row in report["trained"]:
        if row["sha256"]:
            whose = ("adapter for ", Code(row["dataset"]), " on ", Code(row["backbone"]))
            rows.append([whose, Code(row["sha256"])])
    for row in report["results"]:
        for file, digest in (row["data"] or {}).items():
            rows.append([(Code(row["dataset"]), f": {file}"), Code(digest)])
    return [Table("Hashes", ["", "sha256"], rows)]
