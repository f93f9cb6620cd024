"""Our counts beside Table 3 of arXiv 2508.01630."""

from ..tables import markdown
from . import registry
from .registry import Dataset, Edition


def table() -> str:
    """Markdown: documents, sentences and mentions of each split; the paper's row; its meaning."""
    head = [
        "dataset",
        "documents",
        "sentences",
        "mentions in raw text",
        "mentions on tokens",
        "the paper's Table 3",
        "what that is",
    ]
    rows = [_row(d, e) for d in registry.datasets().values() for e in d.editions.values()]
    return markdown(head, rows)


def _row(dataset: Dataset, edition: Edition) -> list[str]:
    def counts(name: str) -> str:
        found = [getattr(split, name) for split in edition.splits.values()]
        known = [f"{count:,}" for count in found if count is not None]
        return " / ".join(known) or "not recorded"

    several = len(dataset.editions) > 1
    paper = " / ".join(f"{count:,}" for count in dataset.table3 or ()) or "not recorded"
    return [
        f"`{dataset.id}`" + (f" ({edition.id})" if several else ""),
        counts("documents"),
        counts("sentences"),
        counts("mentions"),
        counts("entities"),
        paper,
        dataset.table3_meaning,
    ]
