"""What others have published on the same corpora.

The figures are data (``published.json``), each with its source; one that no source at hand
confirms is null. None of them was measured here.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "published.json"


@dataclass(frozen=True)
class Published:
    """What is known of others on a dataset, F1 in percent.

    openmed (float | None): Of OpenMed NER, the best model for the dataset.
    closed (float | None): Of the closed-source system that the paper compares itself with.
    leader (str | None): Which of these two is ahead, as the paper has it.
    ahead (float | None): By how many points.
    at_least (bool): It is by more than that.
    scispacy (float | None): Of scispaCy's model for the corpus.
    """

    openmed: float | None = None
    closed: float | None = None
    leader: str | None = None
    ahead: float | None = None
    at_least: bool = False
    scispacy: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the report has it."""
        return dict(vars(self))


def of(dataset: str) -> Published:
    """What is known of others on a dataset, or on several taken together.

    dataset (str): Id; any that is not listed has nothing.
    """
    data = _data()
    closed = data["closed"].get(dataset, {})
    return Published(
        openmed=data["openmed"].get(dataset, {}).get("f1"),
        closed=closed.get("f1"),
        leader=closed.get("leader"),
        ahead=closed.get("ahead"),
        at_least=closed.get("at_least", False),
        scispacy=data["scispacy"].get(dataset, {}).get("f1"),
    )


def sources(datasets: list[str]) -> list[dict[str, Any]]:
    """Where the figures on these datasets are from.

    RETURNS (list[dict]): "what", "url", and "datasets" that a source was used for.
    """
    data = _data()
    used: dict[str, set[str]] = {}
    for kind in ("openmed", "closed", "scispacy"):
        for name in datasets:
            source = data[kind].get(name, {}).get("source")
            if source:
                used.setdefault(source, set()).add(name)
    return [
        {**source, "datasets": [name for name in datasets if name in used[key]]}
        for key, source in data["sources"].items()
        if key in used
    ]


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf8"))
    return data
