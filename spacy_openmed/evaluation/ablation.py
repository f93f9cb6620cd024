"""The ablation as a table and a plot, from what ``training/ablation.py`` measured."""

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
    RETURNS (tuple[float, float]): The deviation of a single seed is 0.
    """
    rows = [row for row in _of(result, variant) if corpus in (None, row["corpus"])]
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row["dev_f1"])
    means = [statistics.mean(values) for values in by_seed.values()]
    return statistics.mean(means), statistics.stdev(means) if len(means) > 1 else 0.0


def table(result: Row) -> str:
    """One row a variant: F1 by corpus with its spread, and what it costs. Markdown."""
    corpora = list(dict.fromkeys(row["corpus"] for row in result["runs"]))
    head = [
        "pre-training",
        "fine-tuned",
        *corpora,
        "mean",
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
        seconds = sum(row["step_seconds"] for row in own)
        rows.append(
            [
                PRETRAINING[variant[0]],
                METHODS[variant[1]],
                *(_spread(*f1(result, variant, corpus)) for corpus in corpora),
                _spread(*f1(result, variant)),
                f"{own[0]['learning_rate']:g}",
                f"{statistics.mean(row['seconds'] for row in own) / 60:.1f}",
                f"{1000 * seconds / sum(row['steps'] for row in own):.0f}",
                max(row["peak_memory_mb"] for row in own),
                f"{max(row['trainable_parameters'] for row in own):,}",
                f"{max(row['disk_bytes'] for row in own) / 1e6:.2f}",
            ]
        )
    return markdown(head, rows)


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.2f} ± {deviation:.2f}"


def _of(result: Row, variant: Variant) -> list[Row]:
    return [row for row in result["runs"] if (row["pretraining"], row["method"]) == variant]


def draw(result: Row, path: Path) -> None:
    """Dev F1 of every run by corpus and variant; means beside minutes.

    path (Path): .png, .svg or .pdf.
    RAISES (OpenMedError): matplotlib is not installed, or cannot write such a file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OpenMedError("Plots need matplotlib: pip install spacy-openmed[report].") from error
    corpora = list(dict.fromkeys(row["corpus"] for row in result["runs"]))
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
        minutes = statistics.mean(row["step_seconds"] for row in own) / 60
        by_time.errorbar([minutes], [mean], yerr=[deviation], capsize=3, ms=7, **style)
    by_corpus.set_xticks(range(len(corpora)), corpora)
    by_corpus.set_ylabel("F1 on dev, every seed")
    by_corpus.grid(axis="y", alpha=0.3)
    by_corpus.legend(fontsize=7)
    by_time.set_xlabel("minutes of updates a run")
    by_time.set_ylabel("mean F1 on dev ± standard deviation over seeds")
    by_time.grid(alpha=0.3)
    suffix = path.suffix.lstrip(".")
    if suffix not in figure.canvas.get_supported_filetypes():
        raise OpenMedError(f"{path}: give a name that ends in .png, .svg or .pdf.")
    with atomic_file(path) as part:
        figure.savefig(part, format=suffix, dpi=150)


_COLOURS = {"none": "#777777", "merge": "#1b6ca8", "continue": "#d9822b"}
_MARKERS = {"lora": "o", "full": "s", "head": "^"}
