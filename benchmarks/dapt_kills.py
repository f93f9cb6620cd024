r"""Whether ``spacy openmed dapt --resume`` ends where an unbroken run ends, when the run was
killed several times on the way.

Runs the command in processes of its own: unbroken; killed by SIGKILL at random moments and
resumed each time; and unbroken with two other seeds, whose spread is the noise that a difference
is to be compared with.

    python benchmarks/dapt_kills.py CORPORA/raw/pubmed_abstracts_train.txt.gz \
        --json benchmarks/results/dapt_kills.json
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import torch
from common import report
from safetensors.torch import load_file

from spacy_openmed.evaluation.perplexity import perplexity
from spacy_openmed.training.masked_lm import read_passages

BACKBONE = "minilm"
WINDOW = 128
# A run logs its mean loss with every checkpoint: so many of them are its loss at the end.
LAST = 2
SAVE_EVERY = 10
# The phases in order: name in the command's record, and folder of checkpoints.
PHASES = {
    "head": "head-checkpoints",
    "adaptation": "checkpoints",
    "settled": "settle-checkpoints",
}
# As the settings of the adapter that ships, but for what makes a run short.
SETTINGS = r"""
window = {window}
head_steps = {head_updates}
head_learning_rate = 3e-3
keep = 0.5
settle_steps = {settle_updates}
save_steps = {save_every}

[lora]
rank = 32
alpha = 64
dropout = 0.0
target_modules = 'encoder\.layer\.\d+\..*\.(query|key|value|dense)'
embedding_rank = 16

[optim]
batch_size = 16
learning_rate = 1.5e-3
warmup_ratio = 0.05
max_steps = {updates}
seed = {seed}
"""


@dataclass(frozen=True)
class Moment:
    """A point of the training between two checkpoints.

    update (float): Of the phase.
    """

    phase: str
    update: float

    @property
    def saved(self) -> int:
        """Updates at the last checkpoint before it."""
        return int(self.update) // SAVE_EVERY * SAVE_EVERY


class Deadline:
    """Says when a process has got to a moment, as far as can be seen from outside.

    after (Path | None): The last checkpoint before it; None where there is none.
    seconds (float): Of the processor, from there on.
    """

    def __init__(self, after: Path | None, seconds: float) -> None:
        self.after = after
        self.seconds = seconds
        self._begun: float | None = None

    def __call__(self, used: float) -> bool:
        """used (float): Processor seconds of the process."""
        if self._begun is None and (self.after is None or self.after.exists()):
            self._begun = used
        return self._begun is not None and used - self._begun >= self.seconds


@dataclass
class Run:
    """A run of the command, in one process or in several.

    output (Path): What it writes, beside its settings and its log.
    updates (dict[str, int]): Of each phase.
    seconds, processor_seconds (float): Of all its processes together.
    kills (list[dict]): Where it was killed.
    """

    text: Path
    output: Path
    seed: int
    updates: dict[str, int]
    seconds: float = 0.0
    processor_seconds: float = 0.0
    kills: list[dict[str, Any]] = field(default_factory=list)

    def go(self, *options: str, deadline: Callable[[float], bool] = lambda _: False) -> bool:
        """Start the command, and kill it when the deadline says so.

        RETURNS (bool): Whether it came to its end.
        """
        config = self.output.with_suffix(".toml")
        config.write_text(
            SETTINGS.format(
                window=WINDOW,
                save_every=SAVE_EVERY,
                seed=self.seed,
                head_updates=self.updates["head"],
                updates=self.updates["adaptation"],
                settle_updates=self.updates["settled"],
            ),
            encoding="utf8",
        )
        command = [sys.executable, "-m", "spacy_openmed", "dapt", "--backbone", BACKBONE]
        command += ["--text", str(self.text), "--output", str(self.output)]
        command += ["--config", str(config), *options]
        log = self.output.with_suffix(".log")
        begun = time.perf_counter()
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        used = 0.0
        killed = False
        while not killed and process.poll() is None:
            try:
                used = sum(watched.cpu_times()[:2])
            except psutil.NoSuchProcess:
                break
            if deadline(used):
                process.kill()
                killed = True
            time.sleep(0.01)
        status = process.wait()
        self.seconds += time.perf_counter() - begun
        self.processor_seconds += used
        if not killed and status != 0:
            tail = log.read_text(encoding="utf8", errors="replace")[-3000:]
            raise SystemExit(f"{tail}\n{' '.join(command)} failed.")
        return not killed

    def newest_checkpoint(self) -> str | None:
        """The last one that was begun; it need not be complete."""
        for folder in reversed(PHASES.values()):
            steps = [
                int(path.name.rsplit("-", 1)[1])
                for path in (self.output / folder).glob("checkpoint-*")
            ]
            if steps:
                return f"{folder}/checkpoint-{max(steps)}"
        return None

    @property
    def adapter(self) -> Path:
        return self.output / "adapter"

    @property
    def record(self) -> dict[str, Any]:
        """What the command wrote about itself."""
        data: dict[str, Any] = json.loads((self.adapter / "dapt.json").read_text("utf8"))
        return data

    def weights(self) -> dict[str, torch.Tensor]:
        """All that was trained: LoRA and both heads."""
        return {
            f"{path.name} {name}": tensor
            for path in sorted(self.adapter.glob("*.safetensors"))
            for name, tensor in load_file(str(path)).items()
        }

    def held_out_loss(self, text: Path) -> float:
        """Nats a wordpiece on passages that no run has seen, the same masks for every run."""
        found = perplexity(BACKBONE, [text], adapter=self.adapter, window=WINDOW)
        return math.log(found["adapted"]["perplexity"])

    def row(self, name: str, held_out: Path) -> dict[str, Any]:
        record = self.record
        return {
            "run": name,
            "seed": self.seed,
            "kills": len(self.kills),
            **{f"{phase} steps": record[phase]["steps"] for phase in PHASES},
            "last loss": fmean(record["adaptation"]["losses"][-LAST:]),
            "held-out loss": self.held_out_loss(held_out),
            "processor seconds": self.processor_seconds,
        }


def draw_moments(updates: dict[str, int], kills: int, seed: int) -> list[Moment]:
    """Random moments, no two between the same checkpoints, in order.

    The last stretch is left out: a process that is a little faster would be at its end.
    """
    draw = random.Random(seed)
    stretches = [
        (phase, begin) for phase in PHASES for begin in range(0, updates[phase], SAVE_EVERY)
    ]
    chosen = sorted(draw.sample(range(len(stretches) - 1), kills))
    return [
        Moment(phase, begin + SAVE_EVERY * draw.random())
        for phase, begin in (stretches[i] for i in chosen)
    ]


def kill_and_resume(run: Run, moments: list[Moment], pace: dict[str, float]) -> None:
    """Train with interruptions.

    pace (dict[str, float]): Processor seconds of an update of each phase.
    """
    folders = {phase: run.output / folder for phase, folder in PHASES.items()}
    ends = {
        phase: folders[earlier] / f"checkpoint-{run.updates[earlier]}"
        for earlier, phase in pairwise(PHASES)
    }
    options: list[str] = []
    for moment in moments:
        if moment.saved:
            after: Path | None = folders[moment.phase] / f"checkpoint-{moment.saved}"
        else:
            after = ends.get(moment.phase)
        seconds = (moment.update - moment.saved) * pace[moment.phase]
        if run.go(*options, deadline=Deadline(after, seconds)):
            raise SystemExit("The run was at its end before its last kill. Choose another --seed.")
        run.kills.append(
            {
                "phase": moment.phase,
                "update, about": round(moment.update, 1),
                "newest checkpoint": run.newest_checkpoint(),
            }
        )
        print(run.kills[-1], flush=True)
        options = ["--resume"]
    run.go(*options)


def differences(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, Any]:
    """How two runs' weights differ; they are stored in float16."""
    if set(first) != set(second):
        raise SystemExit("The runs' weights have different names.")
    largest = {
        name: float((first[name].float() - second[name].float()).abs().max()) for name in first
    }
    return {
        "weights are identical": all(torch.equal(first[name], second[name]) for name in first),
        "tensors that differ": sum(value > 0 for value in largest.values()),
        "tensors": len(largest),
        "largest difference of a weight": max(largest.values()),
    }


def spread(values: list[float]) -> float:
    return max(values) - min(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="One passage a line, .gz allowed")
    parser.add_argument("--passages", type=int, default=400, help="To train on, from the beginning")
    parser.add_argument("--held-out", type=int, default=100, help="Passages after those")
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--head-updates", type=int, default=40)
    parser.add_argument("--settle-updates", type=int, default=30)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="Of the moments")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    updates = {
        "head": arguments.head_updates,
        "adaptation": arguments.updates,
        "settled": arguments.settle_updates,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        passages = read_passages([arguments.text])
        text, held_out = folder / "text.txt", folder / "held-out.txt"
        for path, count in ((text, arguments.passages), (held_out, arguments.held_out)):
            lines = islice(passages, count)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")

        def new(name: str, seed: int) -> Run:
            output = folder / name.replace(" ", "-")
            return Run(text, output, seed, updates)

        runs = {
            "unbroken": new("unbroken", 1),
            "killed": new("killed", 1),
            "seed 2": new("seed 2", 2),
            "seed 3": new("seed 3", 3),
        }
        unbroken, killed = runs["unbroken"], runs["killed"]
        unbroken.go()
        record = unbroken.record
        # The share of a processor that the process had.
        share = unbroken.processor_seconds / unbroken.seconds
        pace = {phase: share * record[phase]["seconds"] / updates[phase] for phase in PHASES}
        kill_and_resume(killed, draw_moments(updates, arguments.kills, arguments.seed), pace)
        runs["seed 2"].go()
        runs["seed 3"].go()
        rows = [run.row(name, held_out) for name, run in runs.items()]
        facts = {
            "backbone": BACKBONE,
            "windows": record["windows"],
            "wordpieces": record["wordpieces"],
            "settings": record["settings"],
            "threads": torch.get_num_threads(),
            "kills": killed.kills,
            "losses": {
                name: [round(loss, 4) for loss in run.record["adaptation"]["losses"]]
                for name, run in runs.items()
            },
            **differences(unbroken.weights(), killed.weights()),
        }
    columns = ("last loss", "held-out loss")
    seeds = [row for row in rows if row["run"] != "killed"]
    facts["difference of killed and unbroken"] = {
        column: abs(rows[0][column] - rows[1][column]) for column in columns
    }
    facts["noise: largest difference of three seeds"] = {
        column: spread([row[column] for row in seeds]) for column in columns
    }
    report(rows, arguments.json, **facts)
    print(json.dumps(facts, indent=2))
    for row in rows:
        if any(row[f"{phase} steps"] != count for phase, count in updates.items()):
            raise SystemExit(f"{row['run']} has not the steps that were asked for.")


if __name__ == "__main__":
    main()
