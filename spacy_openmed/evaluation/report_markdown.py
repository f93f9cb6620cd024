"""A report as Markdown, from what ``report.collect`` gives."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..packaging.cards import energy_facts
from ..tables import markdown
from .report import hashes

Row = dict[str, Any]
ABSENT = "–"


def render(report: Row) -> str:
    """The report.

    report (dict): From ``report.collect``.
    RETURNS (str): Markdown; links are relative to the folder that ``collect`` was given.
    """
    sections = [
        ("What lessens these figures", _sentences(report["warnings"], "Nothing was found.")),
        ("What is missing", _sentences(report["missing"], "Nothing.")),
        ("Scores", _scores(report)),
        ("Labels", _labels(report)),
        ("Looks at test", _looks(report)),
        ("Selection", _selection(report)),
        ("Search", _searches(report)),
        ("Fine-tuning", _trained(report)),
        ("Pre-training", _pretraining(report)),
        ("Energy", _energy(report)),
        ("Hashes", _hashes(report)),
    ]
    head = f"""# Report

Datasets: {", ".join(report["datasets"]) or "none"}. Backbones: \
{", ".join(report["backbones"]) or "none"}. Made with spacy-openmed {report["spacy_openmed"]}.
Scores are exact match of span and label, in percent. {ABSENT}: not known."""
    return "\n\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections)]) + "\n"


def _sentences(sentences: Sequence[str], none: str) -> str:
    return "\n".join(f"- {sentence}." for sentence in sentences) or none


def _scores(report: Row) -> str:
    rows = [
        [_dataset(row), row["split"], kind, *_prf(row[kind])]
        for row in report["results"]
        for kind in ("raw", "conll")
        if row[kind]
    ]
    head = ["dataset", "split", "scored on", "P", "R", "F1", "mentions"]
    note = (
        'Of the chosen adapters. "raw": characters of the raw text; "conll": the corpus\'s own '
        "tokens. Epochs and settings were chosen on dev, which flatters the figures on dev."
    )
    return _table(head, rows, note)


def _dataset(row: Row) -> str:
    return f"`{row['dataset']}`" + (" (a part)" if row["partial"] else "")


def _prf(score: Row) -> list[Any]:
    figures = [_number(score[key], 2) for key in ("precision", "recall", "f1")]
    return [*figures, score["tp"] + score["fn"]]


def _labels(report: Row) -> str:
    rows = [
        [_dataset(row), row["split"], label, *_prf(score)]
        for row in report["results"]
        if row["raw"]
        for label, score in row["raw"]["per_label"].items()
    ]
    return _table(["dataset", "split", "label", "P", "R", "F1", "mentions"], rows, "Raw text.")


def _looks(report: Row) -> str:
    rows = [
        [
            f"`{look['dataset']}`",
            f"**{look['look']}**" if look["look"] > 1 else 1,
            look["time"] or ABSENT,
            f"`{look['adapter']}`" if look["adapter"] else ABSENT,
            _number(look["raw_f1"], 2),
            _number(look["conll_f1"], 2),
            look["reason"] or "",
        ]
        for look in report["looks"]
    ]
    head = ["dataset", "look", "when", "adapter", "raw F1", "conll F1", "why again"]
    return _table(head, rows, "As the ledger has them.")


def _selection(report: Row) -> str:
    rows = [
        [
            f"`{row['dataset']}`",
            f"`{row['backbone']}`",
            _number(row["dev_f1"], 2),
            _count(row["parameters"]),
            "chosen" if row["chosen"] else "",
        ]
        for row in report["candidates"]
    ]
    note = "By raw F1 on dev; between equals the smaller model."
    return _table(["dataset", "backbone", "dev F1", "parameters", ""], rows, note)


def _searches(report: Row) -> str:
    rows = [
        [
            f"`{row['dataset']}`",
            f"`{row['backbone']}`",
            f"{row['finished']} ({row['pruned']} pruned)",
            row["failed"],
            f"{_percent(row['train_share'])}, {_percent(row['dev_share'])}",
            _number(row["defaults_dev_f1"], 2),
            _number(row["best_dev_f1"], 2),
            _number(row["gain"], 2, "+"),
            _minutes(row),
            *_energy_cells(row),
        ]
        for row in report["searches"]
    ]
    head = ["dataset", "backbone", "trials", "failed", "of train, dev"]
    head += ["defaults", "best", "gain", "minutes", *_ENERGY]
    note = (
        "F1 on dev. The best of many trials was chosen on the dev data that it is measured on: "
        "the gain is an upper bound."
    )
    plots = [
        f"- `{row['dataset']}` on `{row['backbone']}`: "
        + ", ".join(_link(report["runs"], path) for path in row["plots"])
        for row in report["searches"]
        if row["plots"]
    ]
    settings = [
        f"- `{row['dataset']}` on `{row['backbone']}`: "
        + ", ".join(f"{name} {_setting(value)}" for name, value in row["best"].items())
        for row in report["searches"]
        if row["best"]
    ]
    parts = [_table(head, rows, note)]
    parts += ["The best settings:\n\n" + "\n".join(settings)] if settings else []
    parts += ["Plots:\n\n" + "\n".join(plots)] if plots else []
    return "\n\n".join(parts)


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _link(runs: str, path: str) -> str:
    name = path.rpartition("/")[2].rpartition(".")[0].replace("_", " ")
    return f"[{name}]({quote(f'{runs}/{path}')})"


def _trained(report: Row) -> str:
    rows = [
        [
            _dataset(row),
            f"`{row['backbone']}`",
            _number((row["dev"] or {}).get("f1"), 2),
            _count(row["trainable_parameters"]),
            row["epochs"] or ABSENT,
            _minutes(row),
            *_energy_cells(row),
        ]
        for row in report["trained"]
    ]
    head = ["dataset", "backbone", "dev F1", "trainable parameters", "epochs", "minutes"]
    return _table([*head, *_ENERGY], rows)


def _pretraining(report: Row) -> str:
    rows = [
        [
            f"`{row['backbone']}`",
            _number(row["perplexity_before"], 2),
            _number(row["perplexity_after"], 2),
            f"{_number(row['fall'], 1)} %{_interval(row['fall_ci'])}",
            _count(row["trainable_parameters"]),
            _count(row["updates"]),
            _minutes(row),
            *_energy_cells(row),
        ]
        for row in report["pretraining"]
    ]
    head = ["backbone", "before", "after", "fall", "LoRA parameters", "updates", "minutes"]
    note = "Perplexity of hidden wordpieces in text that was not trained on."
    return _table([*head, *_ENERGY], rows, note)


def _interval(ends: Sequence[float] | None) -> str:
    return f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""


def _energy(report: Row) -> str:
    facts = energy_facts({"energy": report["energy"]})
    if not facts:
        return "Not recorded."
    whole = "Of every step above that recorded its energy, together."
    return _table(["", ""], [list(fact) for fact in facts.items()], whole)


def _hashes(report: Row) -> str:
    rows = [
        *(
            [f"backbone `{name}`", f"`{digest}`"]
            for name in report["backbones"]
            for digest in hashes(report, name)
        ),
        *(
            [f"pre-training adapter for `{row['backbone']}`", f"`{row['sha256']}`"]
            for row in report["pretraining"]
            if row["sha256"]
        ),
        *(
            [f"adapter for `{row['dataset']}` on `{row['backbone']}`", f"`{row['sha256']}`"]
            for row in report["trained"]
            if row["sha256"]
        ),
        *(
            [f"`{row['dataset']}`: {name}", f"`{digest}`"]
            for row in report["results"]
            for name, digest in (row["data"] or {}).items()
        ),
    ]
    return _table(["", "sha256"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    if not rows:
        return "Nothing."
    return "\n\n".join([*([note] if note else []), markdown(head, rows)])


_ENERGY = ("kWh by TDP", "g CO2 by TDP", "kWh by codecarbon")


def _energy_cells(row: Row) -> list[str]:
    used = row["energy"] or {}
    measured = used.get("codecarbon") or {}
    amounts = (used.get("tdp_kwh"), used.get("tdp_g_co2"), measured.get("kwh"))
    return [ABSENT if amount is None else f"{amount:.3g}" for amount in amounts]


def _minutes(row: Row) -> str:
    return ABSENT if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.3g} %"


def _count(number: int | None) -> str:
    return ABSENT if number is None else f"{number:,}"


def _number(number: float | None, digits: int, sign: str = "") -> str:
    return ABSENT if number is None else f"{number:{sign}.{digits}f}"
