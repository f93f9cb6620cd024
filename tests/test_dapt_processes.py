"""Pre-training in several processes, with the real command."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spacy_openmed import pretraining
from spacy_openmed.evaluation.perplexity import perplexity
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.settings import DaptSettings, load

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:mtime may not be reliable"),
]

CONFIG = r"""
window = 48
head_steps = 12
head_learning_rate = 1e-2
save_steps = 10

[lora]
rank = 4
alpha = 8
dropout = 0.0
target_modules = 'encoder\.layer\..*\.(query|key|value|dense)'

[optim]
batch_size = {batch}
learning_rate = 1e-2
epochs = 4
precision = "fp32"
"""
PASSAGES = (
    "mutation of the brca gene is by far a factor in breast cancer of human patients",
    "hepatitis was induced in mice by the toxic drug and therapy was with a receptor",
    "expression of the kinase protein in a tumor cell is for treatment of leukemia",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    lines = [f"{PASSAGES[i % 3]} . {PASSAGES[i // 3 % 3]}\n" * 2 for i in range(30)]
    # An odd number: the windows of a pass cannot be shared out evenly.
    (folder / "own.txt").write_text("".join([*lines, lines[0].splitlines()[0]]), encoding="utf8")
    for batch in (4, 8):
        (folder / f"{batch}.toml").write_text(CONFIG.format(batch=batch), encoding="utf8")
    return folder


@pytest.fixture(scope="module")
def two(folder: Path, tiny_backbone: Path) -> dict[str, Any]:
    """The record of a run of two processes, and what they printed."""
    output = folder / "two"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "spacy_openmed", "dapt", "--backbone", tiny_backbone]
    command += ["--text", folder / "own.txt", "--config", folder / "4.toml", "--output", output]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads((output / "adapter" / pretraining.RECORD).read_text())
    return {"record": record, "output": output, "stdout": done.stdout, "stderr": done.stderr}


def losses(output: Path, folder: Path, backbone: Path) -> tuple[float, float]:
    """Nats a wordpiece, of the head on the plain backbone and of head and adapter.

    On masks that are the same for all runs: those of training differ with the processes.
    """
    found = perplexity(str(backbone), [folder / "own.txt"], output / "adapter", window=48)
    return math.log(found["base"]["perplexity"]), math.log(found["adapted"]["perplexity"])


def test_two_processes_do_what_one_does(two: dict[str, Any], folder: Path, tiny_backbone: Path):
    output = folder / "one"
    settings = load(DaptSettings, folder / "8.toml")
    one = dapt(str(tiny_backbone), [folder / "own.txt"], output, settings)
    assert one["windows"] == two["record"]["windows"] and one["windows"] % 2 == 1
    assert (one["processes"], two["record"]["processes"]) == (1, 2)
    for phase in ("head", "adaptation"):
        assert two["record"][phase]["steps"] == one[phase]["steps"] > 10
    expected = losses(output, folder, tiny_backbone)
    found = losses(two["output"], folder, tiny_backbone)
    assert expected[1] < expected[0] - 0.5
    assert found == pytest.approx(expected, abs=0.1)


def test_only_one_of_them_writes_and_speaks(two: dict[str, Any]):
    assert two["stdout"].count("adapter in ") == 1
    for phase in ("head", "LoRA"):
        assert two["stderr"].count(f"{phase}: ") == 1
    left = [path.name for path in two["output"].iterdir() if path.name.startswith(".")]
    assert left == []
    for folder in (two["output"] / "checkpoints").iterdir():
        # What only one of them knows is kept by each: the state of its random numbers.
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in folder.iterdir()}
