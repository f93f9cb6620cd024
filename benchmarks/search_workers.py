r"""How much sooner a search ends with two trials at a time, each on one thread.

Runs ``spacy openmed search`` on the corpus that comes with the project, with one worker and with
several; only settings that do not change how long a trial takes are searched.

    python benchmarks/search_workers.py --json benchmarks/results/search_workers.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report

ROOT = Path(__file__).parents[1]
SETTINGS = """
pruner = "none"

[fixed]
"optim.epochs" = {epochs}
sentences = false
patience = 100

[space."optim.learning_rate"]
low = 3e-4
high = 3e-3
log = true

[space."optim.weight_decay"]
low = 0.0
high = 0.1
"""


def seconds(workers: int, trials: int, settings: Path, folder: Path) -> dict[str, Any]:
    """The whole command, with its start and that of the workers."""
    command = [
        *(sys.executable, "-m", "spacy_openmed", "search", "--dataset", "sample"),
        *("--corpus", str(ROOT / "assets" / "sample"), "--trials", str(trials)),
        *("--config", str(settings), "--threads", "1", "--no-plots"),
        *("--workers", str(workers), "--output", str(folder)),
    ]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    result = json.loads((folder / "search.json").read_text(encoding="utf8"))
    return {
        "workers": workers,
        "trials": len(result["finished"]),
        "failed": len(result["failed"]),
        "seconds": round(time.monotonic() - begun, 1),
        "seconds of a trial": round(result["seconds"] / len(result["finished"]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / "search.toml"
        settings.write_text(SETTINGS.format(epochs=arguments.epochs), encoding="utf8")
        rows = [
            seconds(workers, arguments.trials, settings, Path(temporary) / str(workers))
            for workers in (1, arguments.workers)
        ]
    ratio = rows[1]["seconds"] / rows[0]["seconds"]
    report(rows, arguments.json, cores=os.cpu_count(), ratio=round(ratio, 3))
    print(f"ratio: {ratio:.3f}")


if __name__ == "__main__":
    main()
