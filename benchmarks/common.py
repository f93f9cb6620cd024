"""What the benchmark scripts share."""

import json
import platform
from pathlib import Path
from typing import Any


def report(rows: list[dict[str, Any]], json_path: Path | None, **facts: Any) -> None:
    """Print rows as a table, and write them with what they were measured on."""
    columns = list(rows[0])
    print("  ".join(f"{name:>16}" for name in columns))
    for row in rows:
        print("  ".join(f"{_cell(row[name]):>16}" for name in columns))
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        data = {"machine": platform.machine(), **facts, "rows": rows}
        json_path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf8")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
