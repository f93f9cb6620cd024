"""The ablation as a table and a plot, from what ``training/ablation.py`` measured."""

import importlib.util
import math
import statistics
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..files import atomic_file
from ..tables import markdown

PRETRAINING = {"none": "none", "merge": "DAPT, merged", "continue": "DAPT, continued"}
METHODS = {"lora": "LoRA", "full": "full fine-tuning", "head": "head only"}

Row = dict[str, Any]
Variant = tuple[str, str]


def variants(result: Row) -> list[Variant]:
    """Pre-training and method of each variant, in the order they were run."""
    return list(dict.fromkeys((row["pretraining"], row["method"]) for row in result["runs"]))


def f1(result: Row, variant: Variant, corpus: str | None = None) -> tuple[float, float]:
    """Dev F1 of a variant in points, mean and sample standard deviation over seeds.

    corpus (str | None): None for the mean over corpora, seed by seed.
    RETURNS (tuple[float, float]): The deviation of a single seed is NaN.
    """
    rows = [row for row in _of(result, variant) if corpus in (None, row["corpus"])]
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row["dev_f1"])
    means = [statistics.mean(values) for values in by_seed.values()]
    return statistics.mean(means), statistics.stdev(means) if len(means) > 1 else math.nan


def f1_table(result: Row) -> str:
    """F1 on dev by variant and corpus, mean ± standard deviation over seeds. Markdown."""
    corpora = _corpora(result)
    rows = [
        [
            *_names(variant),
            *(_spread(*f1(result, variant, corpus)) for corpus in corpora),
            _spread(*f1(result, variant)),
        ]
        for variant in variants(result)
    ]
    return markdown(["pre-training", "fine-tuned", *corpora, "mean"], rows)


def cost_table(result: Row) -> str:
    """What each variant costs. Markdown.

    Times are those of its fastest run, which other work on the machine has slowed least; memory
    is the highest peak.
    """
    head = [
        "pre-training",
        "fine-tuned",
        "learning rate",
        "minutes a run",
        "ms an update",
        "peak memory, MB",
        "trainable parameters",
        "disk, MB",
    ]
    rows = []
    for variant in variants(result):
        own = _of(result, variant)
        fastest = min(own, key=_update_seconds)
        rows.append(
            [
                *_names(variant),
                f"{own[0]['learning_rate']:g}",
                f"{fastest['seconds'] / 60:.1f}",
                f"{1000 * _update_seconds(fastest):.0f}",
                max(row["peak_memory_mb"] for row in own),
                f"{max(row['trainable_parameters'] for row in own):,}",
                f"{max(row['disk_bytes'] for row in own) / 1e6:.2f}",
            ]
        )
    return markdown(head, rows)


def _corpora(result: Row) -> list[str]:
    return list(dict.fromkeys(row["corpus"] for row in result["runs"]))


def _update_seconds(row: Row) -> float:
    seconds: float = row["step_seconds"] / row["steps"]
    return seconds


def _names(variant: Variant) -> tuple[str, str]:
    return PRETRAINING[variant[0]], METHODS[variant[1]]


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _of(result: Row, variant: Variant) -> list[Row]:
    return [row for row in result["runs"] if (row["pretraining"], row["method"]) == variant]


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be written, before anything is measured for it.

    RAISES (OpenMedError): matplotlib is not installed, or the file is of no known kind.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise OpenMedError("Plots need matplotlib: pip install spacy-openmed[report].")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OpenMedError(f"{path}: give a name that ends in .png, .svg or .pdf.")


def draw(result: Row, path: Path) -> None:
    """Dev F1 of every run by corpus and variant; means beside the time of an update.

    path (Path): .png, .svg or .pdf.
    RAISES (OpenMedError): See ``check_plot``.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    corpora = _corpora(result)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    by_corpus, by_time = figure.subplots(1, 2, width_ratios=[3, 2])
    shown = variants(result)
    for index, variant in enumerate(shown):
        own = _of(result, variant)
        style = {"color": _COLOURS[variant[0]], "marker": _MARKERS[variant[1]]}
        label = f"{PRETRAINING[variant[0]]}: {METHODS[variant[1]]}"
        offset = (index - (len(shown) - 1) / 2) * 0.1
        by_corpus.scatter(
            [corpora.index(row["corpus"]) + offset for row in own],
            [row["dev_f1"] for row in own],
            s=22,
            alpha=0.75,
            label=label,
            **style,
        )
        mean, deviation = f1(result, variant)
        update = 1000 * min(map(_update_seconds, own))
        spread = None if math.isnan(deviation) else [deviation]
        by_time.errorbar([update], [mean], yerr=spread, capsize=3, ms=7, **style)
    by_corpus.set_xticks(range(len(corpora)), corpora)
    by_corpus.set_ylabel("F1 on dev, every seed")
    by_corpus.grid(axis="y", alpha=0.3)
    by_corpus.legend(fontsize=7)
    by_time.set_xlabel("ms an update, fastest run")
    by_time.set_ylabel("mean F1 on dev ± standard deviation over seeds")
    by_time.grid(alpha=0.3)
    with atomic_file(path) as part:
        figure.savefig(part, format=path.suffix.lower().lstrip("."), dpi=150)


_COLOURS = {"none": "#777777", "merge": "#1b6ca8", "continue": "#d9822b"}
_MARKERS = {"lora": "o", "full": "s", "head": "^"}
