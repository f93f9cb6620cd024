"""What one configuration for all corpora costs each of them, as a Markdown table."""

from typing import Any

from ..tables import markdown

_HEAD = (
    "corpus",
    "train mentions",
    "start",
    "own best",
    "common",
    "cost",
    "best batch",
    "best rate",
    "best rank",
    "quarter batch",
    "quarter rate",
)


def table(result: dict[str, Any]) -> str:
    """A row for each corpus, and their mean.

    F1 on dev in percent: of the settings that the searches started from, of the corpus's own
    best trial, and of the common configuration; the cost in points. Then batch size, learning
    rate and LoRA rank of the best trial, and the medians of the best quarter.

    result (dict): What ``search.common`` returns.
    RETURNS (str): Markdown, without a line break at its end.
    """
    rows = [
        [
            row["dataset"],
            f"{row['train_mentions']:,}",
            *_figures(row),
            row["best"]["optim.batch_size"],
            f"{row['best']['optim.learning_rate']:.2g}",
            row["best"]["lora.rank"],
            f"{row['quarter']['optim.batch_size']:g}",
            f"{row['quarter']['optim.learning_rate']:.2g}",
        ]
        for row in result["corpora"]
    ]
    mean = ["mean", "", *_figures(result["mean"]), *[""] * 5]
    return markdown(_HEAD, [*rows, mean])


def _figures(row: dict[str, Any]) -> list[str]:
    start = "–" if row["defaults"] is None else f"{row['defaults']:.2f}"
    scores = [f"{row[name]:.2f}" for name in ("own_best", "common")]
    return [start, *scores, f"{row['cost']:+.2f}"]
