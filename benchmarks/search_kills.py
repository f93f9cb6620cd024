r"""Whether a search that was killed several times ends with the trials of an unbroken one.

Runs ``spacy openmed search`` in processes of its own, on the corpus that comes with the project:
unbroken, and killed by SIGKILL at random moments and started again each time.

    python benchmarks/search_kills.py --json benchmarks/results/search_kills.json
"""

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import report

ROOT = Path(__file__).parents[1]
# A share of the corpus and three epochs: a trial takes seconds.
SETTINGS = """
train_characters = 6000
dev_characters = 6000
pruner = "median"
startup_trials = 8

[fixed]
"optim.epochs" = 3
sentences = false

[space."optim.learning_rate"]
low = 3e-4
high = 1e-2
log = true

[space."optim.batch_size"]
choices = [1, 2, 4, 8]

[space."optim.weight_decay"]
low = 0.0
high = 0.1

[space."optim.warmup_ratio"]
low = 0.0
high = 0.3

[space."lora.rank"]
choices = [8, 16, 32]

[space."lora.dropout"]
low = 0.0
high = 0.2
"""


@dataclass
class Run:
    """A search in a folder.

    kills (list[dict]): Where it was killed: finished trials, and the part of the next one.
    """

    folder: Path
    settings: Path
    trials: int
    kills: list[dict[str, Any]] = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "spacy_openmed", "search", "--dataset", "sample"),
            *("--corpus", str(ROOT / "assets" / "sample"), "--trials", str(self.trials)),
            *("--config", str(self.settings), "--threads", "1", "--no-plots"),
            *("--output", str(self.folder)),
        ]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def finish(self) -> None:
        if self.start().wait():
            raise SystemExit(f"The search in {self.folder} failed: see trials.log there.")

    def kill(self, finished: int, share: float, seconds: float) -> None:
        """Start, and kill in the trial after so many, when about a share of it is over."""
        process = self.start()
        while self.finished() < finished:
            if process.poll() is not None:
                raise SystemExit("The search ended before it was to be killed.")
            time.sleep(0.02)
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills.append({"finished trials": self.finished(), "share of the next": share})
        print(self.kills[-1], flush=True)

    def finished(self) -> int:
        path = self.folder / "study.db"
        if not path.is_file():
            return 0
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                query = "select count(*) from trials where state in ('COMPLETE', 'PRUNED')"
                return int(database.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            # Not made yet, or being written to.
            return 0

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "search.json").read_text(encoding="utf8"))
        return found

    def row(self, name: str) -> dict[str, Any]:
        result = self.result
        states = [row["state"] for row in result["finished"]]
        return {
            "run": name,
            "kills": len(self.kills),
            "finished": len(states),
            "pruned": states.count("PRUNED"),
            "cut off": len(result["failed"]),
            "best dev F1": result["best"]["dev_f1"],
        }


def trials_of(run: Run) -> list[tuple[Any, ...]]:
    return [
        (row["params"], row["state"], row["epochs"], row["dev_f1"])
        for row in run.result["finished"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="Of the moments")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    moments = sorted(draw.sample(range(1, arguments.trials), arguments.kills))
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / "search.toml"
        settings.write_text(SETTINGS, encoding="utf8")
        whole = Run(Path(temporary) / "whole", settings, arguments.trials)
        whole.finish()
        rows = whole.result["finished"]
        killed = Run(Path(temporary) / "killed", settings, arguments.trials)
        for finished in moments:
            killed.kill(finished, draw.random(), rows[finished]["seconds"])
        killed.finish()
        same = [a == b for a, b in zip(trials_of(whole), trials_of(killed), strict=True)]
        best = [run.result["best"] for run in (whole, killed)]
        report(
            [whole.row("unbroken"), killed.row("killed")],
            arguments.json,
            kills=killed.kills,
            same_trials=sum(same),
            same_best=best[0]["params"] == best[1]["params"]
            and best[0]["dev_f1"] == best[1]["dev_f1"],
        )
        print(f"same trials: {sum(same)} of {len(same)}")


if __name__ == "__main__":
    main()
