r"""Does the memory of ``spacy openmed annotate`` grow with its input?

Runs the command in a process of its own on an input, and on one four times as long; the most that
the process had resident at any time.

    python benchmarks/annotate_memory.py --json benchmarks/results/annotate_memory.json

The text is that of the corpus that comes with the project, repeated.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from annotate_workers import command, write_input
from common import report

TIMES = 4


def measure(folder: Path, documents: int, name: str) -> dict[str, Any]:
    """The whole command."""
    source = write_input(folder / f"{documents}.jsonl", documents)
    summary = folder / f"{documents}.json"
    process = subprocess.Popen(
        command(source, folder / str(documents) / name, 1, summary),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Of this process alone, which other ways to wait for it do not tell.
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The annotation of {documents} documents failed.")
    result = json.loads(summary.read_text(encoding="utf8"))
    return {
        "documents": result["documents"],
        "words": result["words"],
        # Linux counts in KiB.
        "peak, MB": usage.ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=10_000, help="Of the shorter input")
    parser.add_argument("--output-name", default="out.jsonl", help="Its suffix is the format")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [
            measure(Path(temporary), documents, arguments.output_name)
            for documents in (arguments.documents, TIMES * arguments.documents)
        ]
    first, second = (float(row["peak, MB"]) for row in rows)
    report(rows, arguments.json, format=arguments.output_name, growth_mb=round(second - first, 1))
    print(f"growth: {second - first:.1f} MB")


if __name__ == "__main__":
    main()
