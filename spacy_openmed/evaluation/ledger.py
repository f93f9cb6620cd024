"""An append-only record of every look at a split: what was measured, when, on what."""

import datetime
import json
from pathlib import Path
from typing import Any


def append(path: Path, result: dict[str, Any]) -> None:
    """Add one line.

    path (Path): The ledger, JSON lines.
    result (dict): What ``spacy openmed evaluate`` measured.
    """
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "dataset": result["dataset"],
        "split": result["split"],
        "adapter": result["adapter"],
        "edges": result["edges"],
        "data": result["data"],
        "raw_f1": result["raw"]["f1"],
        "conll_f1": result["conll"]["f1"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf8") as file:
        file.write(json.dumps(line) + "\n")
