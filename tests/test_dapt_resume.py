"""Pre-training that is killed and goes on: nothing is lost, nothing foreign is mixed in."""

import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments
from typer.testing import CliRunner

from spacy_openmed import pretraining
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.low_rank import LORA_WEIGHTS
from spacy_openmed.training import trainer
from spacy_openmed.training.dapt import RUN, dapt, is_finished
from spacy_openmed.training.masked_lm import BASE_HEAD, HEAD
from spacy_openmed.training.settings import DaptSettings, LoraSettings, OptimSettings
from spacy_openmed.training.trainer import (
    STATE,
    TRAINABLE,
    TrainableOnlyTrainer,
    last_checkpoint,
    training_arguments,
)

# Limits of a process, SIGKILL and servers that fork: not on Windows.
resource = pytest.importorskip("resource")

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # Checkpoints of so small a network are written within a second.
    pytest.mark.filterwarnings("ignore:mtime may not be reliable"),
]

# Dropout, several passes, checkpoints within one, updates of several batches, a few windows
# that make no whole update: whatever has a state.
SETTINGS = DaptSettings(
    lora=LoraSettings(
        rank=4, alpha=8, dropout=0.2, target_modules=r"encoder\.layer\..*\.(query|value|dense)"
    ),
    optim=OptimSettings(
        batch_size=2, accumulation=3, learning_rate=1e-2, max_steps=11, precision="fp32"
    ),
    window=48,
    head_steps=5,
    head_learning_rate=1e-2,
    keep=0.5,
    settle_steps=4,
    save_steps=3,
)
PATTERNS = (
    "mutation of the brca gene is by far a factor in breast cancer of human patients",
    "hepatitis was induced in mice by the toxic drug and therapy was with a receptor",
    "expression of the kinase protein in a tumor cell",
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Passages of different lengths."""
    generator = random.Random(7)
    lines = [" . ".join(generator.choices(PATTERNS, k=generator.randint(2, 4))) for _ in range(30)]
    path = tmp_path_factory.mktemp("texts") / "own.txt"
    path.write_text("\n".join(lines), encoding="utf8")
    return [path]


# Killing a process of its own. The server has imported everything and computed nothing, so
# that its children are quick to start and safe to fork.


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["spacy_openmed.training.dapt", "transformers.models.bert.modeling_bert", "pytest"]
    )
    return context


def run_and_die(
    backbone: Path, texts: list[Path], output: Path, moment: int, resume: bool, count: Path
) -> None:
    """Train, and be killed before a change to the files of the run is made; 0 for never.

    moment (int): Number of the change. Files written by libraries not in Python are cut in
        half when their moment comes, as if the process had been killed while writing them.
    count (Path): Gets the number of changes in the end.
    """
    torch.set_num_threads(1)
    passed = 0

    def pass_moment(half_written: str | None = None) -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            if half_written is not None:
                os.truncate(half_written, os.path.getsize(half_written) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
        if event == "open" and isinstance(args[2], int):
            changes = bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and str(output) in str(args[0]):
            pass_moment()

    def half_written(save: Any) -> Any:
        def saving(content: Any, path: Any, **kwargs: Any) -> None:
            save(content, path, **kwargs)
            pass_moment(str(path))

        return saving

    sys.addaudithook(audit)
    torch.save = half_written(torch.save)
    trainer.save_file = half_written(trainer.save_file)  # type: ignore[attr-defined]
    dapt(str(backbone), texts, output, SETTINGS, resume)
    count.write_text(str(passed))


class Unbroken:
    """A run without interruption, in a process like those that are killed."""

    def __init__(self, output: Path, moments: int) -> None:
        self.output = output
        self.moments = moments


@pytest.fixture(scope="module")
def unbroken(
    tiny_backbone: Path,
    texts: list[Path],
    processes: ForkServerContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Unbroken:
    output = tmp_path_factory.mktemp("unbroken") / "out"
    count = output.with_name("count")
    assert start(processes, tiny_backbone, texts, output, 0) == 0
    return Unbroken(output, int(count.read_text()))


def start(
    processes: ForkServerContext,
    backbone: Path,
    texts: list[Path],
    output: Path,
    moment: int,
    resume: bool = False,
) -> int | None:
    arguments = (backbone, texts, output, moment, resume, output.with_name("count"))
    process = processes.Process(target=run_and_die, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def assert_equal_runs(found: Path, expected: Path) -> None:
    for name in (LORA_WEIGHTS, HEAD, BASE_HEAD):
        ours, theirs = load_file(found / "adapter" / name), load_file(expected / "adapter" / name)
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    ours, theirs = (
        json.loads((folder / "adapter" / pretraining.RECORD).read_text())
        for folder in (found, expected)
    )
    for phase in ("head", "adaptation", "settled"):
        assert ours[phase]["steps"] == theirs[phase]["steps"]
        assert ours[phase]["losses"] == theirs[phase]["losses"]
    assert [path.name for path in found.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("seed", [2, 3])
def test_killed_at_any_moments_a_run_ends_as_an_unbroken_one(
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
    processes: ForkServerContext,
    tmp_path: Path,
    seed: int,
):
    generator = random.Random(seed)
    output = tmp_path / "out"
    kills = 0
    # Each process gets about a third of the way at most: one run is killed several times.
    while kills < 4 and not is_finished(output):
        moment = generator.randint(1, unbroken.moments // 3)
        code = start(processes, tiny_backbone, texts, output, moment, resume=kills > 0)
        assert code in (-signal.SIGKILL, 0)
        kills += code != 0
    assert kills >= 2
    if not is_finished(output):
        assert start(processes, tiny_backbone, texts, output, 0, resume=True) == 0
    assert_equal_runs(output, unbroken.output)


class Interrupted(Exception):
    """Stands for whatever ends a run before its time."""


@contextmanager
def interrupted(phase: str, update: int) -> Iterator[None]:
    """What runs in here ends at an update of a phase, named by its folder of checkpoints."""
    step = TrainableOnlyTrainer.training_step

    def watched(self: TrainableOnlyTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if (Path(str(self.args.output_dir)).name, self.state.global_step) == (phase, update):
            raise Interrupted
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(TrainableOnlyTrainer, "training_step", watched)
        yield


def test_goes_on_within_a_pass_whose_batches_make_no_whole_number_of_updates(
    unbroken: Unbroken, tiny_backbone: Path, texts: list[Path], tmp_path: Path
):
    output = tmp_path / "out"
    with interrupted("checkpoints", 4):
        dapt(str(tiny_backbone), texts, output, SETTINGS)
    assert last_checkpoint(output / "checkpoints") == output / "checkpoints" / "checkpoint-3"
    windows = dapt(str(tiny_backbone), texts, output, SETTINGS, resume=True)["windows"]
    batches = math.ceil(windows / SETTINGS.optim.batch_size)
    accumulation = SETTINGS.optim.accumulation
    assert batches % accumulation != 0 and 3 < batches // accumulation < SETTINGS.optim.max_steps
    assert_equal_runs(output, unbroken.output)


# Going on with what a run was begun with


@pytest.fixture
def at_its_last_checkpoint(unbroken: Unbroken, tmp_path: Path) -> Path:
    """A run that was killed before it wrote its adapter."""
    output = tmp_path / "out"
    shutil.copytree(unbroken.output, output, ignore=shutil.ignore_patterns("adapter"))
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


Change = Callable[[DaptSettings], DaptSettings]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("settings.lora.rank was 4, is 2", lambda s: replace(s, lora=replace(s.lora, rank=2))),
        ("settings.window was 48, is 40", lambda s: replace(s, window=40)),
        (
            "settings.optim.seed was 1, is 2",
            lambda s: replace(s, optim=replace(s.optim, seed=2)),
        ),
        (
            "settings.optim.max_steps was 11, is 20",
            lambda s: replace(s, optim=replace(s.optim, max_steps=20)),
        ),
    ],
    ids=["rank", "window", "seed", "max_steps"],
)
def test_other_settings_are_refused_by_name(
    at_its_last_checkpoint: Path, tiny_backbone: Path, texts: list[Path], name: str, change: Change
):
    before = contents(at_its_last_checkpoint)
    with pytest.raises(OpenMedError, match=name):
        dapt(str(tiny_backbone), texts, at_its_last_checkpoint, change(SETTINGS), resume=True)
    assert contents(at_its_last_checkpoint) == before


def test_other_texts_and_backbones_are_refused_by_name(
    at_its_last_checkpoint: Path, tiny_backbone: Path, texts: list[Path], tmp_path: Path
):
    before = contents(at_its_last_checkpoint)
    other = tmp_path / "own.txt"
    other.write_text(texts[0].read_text() + " more")
    with pytest.raises(OpenMedError, match=r"others than it is to go on with: text 1 was "):
        dapt(str(tiny_backbone), [other], at_its_last_checkpoint, SETTINGS, resume=True)
    backbone = tmp_path / "backbone"
    shutil.copytree(tiny_backbone, backbone)
    with (backbone / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    with pytest.raises(OpenMedError, match=r"others than it is to go on with: backbone was "):
        dapt(str(backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)
    assert contents(at_its_last_checkpoint) == before


def test_another_number_of_processes_is_refused(
    at_its_last_checkpoint: Path, tiny_backbone: Path, texts: list[Path]
):
    run = json.loads((at_its_last_checkpoint / RUN).read_text())
    (at_its_last_checkpoint / RUN).write_text(json.dumps({**run, "processes": 2}))
    with pytest.raises(OpenMedError, match="processes was 2, is 1"):
        dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)


def test_another_precision_is_refused_though_both_are_the_best_of_their_machine(
    at_its_last_checkpoint: Path, tiny_backbone: Path, texts: list[Path]
):
    run = json.loads((at_its_last_checkpoint / RUN).read_text())
    assert run["precision"] == "fp32"
    (at_its_last_checkpoint / RUN).write_text(json.dumps({**run, "precision": "bf16"}))
    with pytest.raises(OpenMedError, match="precision was bf16, is fp32"):
        dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)


def test_what_changes_no_result_may_change(
    at_its_last_checkpoint: Path,
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # A trained run needs no more updates, and the Trainer would make one.
    monkeypatch.setattr(TrainableOnlyTrainer, "training_step", None)
    renamed = tmp_path / "renamed.txt"
    shutil.copyfile(texts[0], renamed)
    monkeypatch.setattr("spacy_openmed.training.dapt.resolve_precision", lambda name: "fp32")
    optim = replace(SETTINGS.optim, gradient_checkpointing=True, precision="auto")
    settings = replace(SETTINGS, save_steps=5, optim=optim)
    record = dapt(str(tiny_backbone), [renamed], at_its_last_checkpoint, settings, resume=True)
    assert record["adaptation"]["steps"] == 11
    assert_equal_runs(at_its_last_checkpoint, unbroken.output)


def test_checkpoints_of_nobody_knows_what_are_refused(
    at_its_last_checkpoint: Path, tiny_backbone: Path, texts: list[Path]
):
    (at_its_last_checkpoint / RUN).unlink()
    with pytest.raises(OpenMedError, match=r"has a run without run\.json"):
        dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)
    # A head alone, too.
    remove_checkpoints(at_its_last_checkpoint)
    with pytest.raises(OpenMedError, match=r"has a run without run\.json"):
        dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)


def remove_checkpoints(output: Path) -> None:
    for folder in output.glob("*checkpoints"):
        shutil.rmtree(folder)


def test_the_head_of_another_run_is_not_taken_over(
    at_its_last_checkpoint: Path,
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
):
    output = at_its_last_checkpoint
    remove_checkpoints(output)
    settings = replace(SETTINGS, optim=replace(SETTINGS.optim, seed=2))
    with interrupted("head-checkpoints", 1):
        dapt(str(tiny_backbone), texts, output, settings)
    assert not (output / BASE_HEAD).exists()
    with interrupted("checkpoints", 0):
        dapt(str(tiny_backbone), texts, output, settings, resume=True)
    own, other = load_file(output / BASE_HEAD), load_file(unbroken.output / BASE_HEAD)
    assert not any(torch.equal(own[name], other[name]) for name in other)


def test_a_finished_run_is_left_alone(
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    before = contents(unbroken.output)
    monkeypatch.setattr(TrainableOnlyTrainer, "train", None)
    record = dapt(str(tiny_backbone), texts, unbroken.output, SETTINGS, resume=True)
    assert record == json.loads(before[f"adapter/{pretraining.RECORD}"])
    with pytest.raises(OpenMedError, match=r"adapter exists.*--resume"):
        dapt(str(tiny_backbone), texts, unbroken.output, SETTINGS)
    config = tmp_path / "own.toml"
    config.write_text(
        "window = 48\nhead_steps = 5\nhead_learning_rate = 0.01\nsave_steps = 3\n"
        "keep = 0.5\nsettle_steps = 4\n"
        "[lora]\nrank = 4\nalpha = 8\ndropout = 0.2\n"
        f"target_modules = '{SETTINGS.lora.target_modules}'\n"
        "[optim]\nbatch_size = 2\naccumulation = 3\nlearning_rate = 0.01\nmax_steps = 11\n"
        "precision = 'fp32'\n"
    )
    command = ["dapt", "--backbone", tiny_backbone, "--text", texts[0], "--config", config]
    command += ["--output", unbroken.output, "--resume"]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 0 and "finished" in done.output
    assert contents(unbroken.output) == before


# Checkpoints that fail


def failing(
    folder: Path, patch: pytest.MonkeyPatch, error: Exception, files: tuple[str, ...]
) -> TrainableOnlyTrainer:
    """A trainer whose third update ends in a checkpoint of these files, and then an error."""
    arguments = training_arguments(OptimSettings(precision="fp32"), folder)
    made = TrainableOnlyTrainer(model=torch.nn.Linear(1, 1), args=arguments)
    made.state.global_step = 3

    def save(self: Trainer, *args: Any) -> None:
        (folder / "checkpoint-3").mkdir(parents=True)
        for name in files:
            (folder / "checkpoint-3" / name).write_text("{}")
        raise error

    patch.setattr(Trainer, "_save_checkpoint", save)
    return made


FULL = OSError(28, "No space left on device")


def test_a_complete_checkpoint_is_kept_whatever_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = failing(tmp_path, monkeypatch, PermissionError(13, "denied"), (TRAINABLE, STATE))
    with pytest.raises(OpenMedError, match="is complete, but an older one could not be removed"):
        made._save_checkpoint(None, None)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"


@pytest.mark.parametrize("saves", [True, False])
def test_only_the_process_that_saves_removes_what_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: bool
):
    made = failing(tmp_path, monkeypatch, FULL, (TRAINABLE,))
    monkeypatch.setattr(TrainingArguments, "should_save", property(lambda self: saves))
    with pytest.raises(OpenMedError, match=r"checkpoint-3 could not be written.*no earlier one"):
        made._save_checkpoint(None, None)
    assert (tmp_path / "checkpoint-3").exists() != saves


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("of memory"), RuntimeError("CUDA error: out of memory")]
)
def test_what_is_out_of_memory_is_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    with pytest.raises(type(error), match="of memory") as caught:
        failing(tmp_path, monkeypatch, error, (TRAINABLE,))._save_checkpoint(None, None)
    assert caught.value is error


# A disk that is full


def run_on_a_full_disk(
    backbone: Path, texts: list[Path], output: Path, limit: int, after: int
) -> None:
    """Train; from an update of LoRA on no file may have more bytes than the limit."""
    torch.set_num_threads(1)
    step = TrainableOnlyTrainer.training_step

    def watched(self: TrainableOnlyTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        folder = Path(self.args.output_dir).name
        if folder == "checkpoints" and self.state.global_step == after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return step(self, *args, **kwargs)

    TrainableOnlyTrainer.training_step = watched  # type: ignore[method-assign]
    try:
        dapt(str(backbone), texts, output, SETTINGS)
    except OpenMedError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        output.with_name("error").write_text(str(error))


@pytest.mark.parametrize("file", ["trainable.safetensors", "optimizer.pt"])
def test_a_full_disk_leaves_the_last_checkpoint(
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
    processes: ForkServerContext,
    tmp_path: Path,
    file: str,
):
    checkpoint = last_checkpoint(unbroken.output / "checkpoints")
    assert checkpoint is not None
    limit = (checkpoint / file).stat().st_size - 100
    output = tmp_path / "out"
    arguments = (tiny_backbone, texts, output, limit, 7)
    process = processes.Process(target=run_on_a_full_disk, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    message = (tmp_path / "error").read_text()
    assert "checkpoint-9 could not be written" in message
    assert f"{output / 'checkpoints' / 'checkpoint-6'} is intact" in message
    assert not (output / "checkpoints" / "checkpoint-9").exists()
    assert last_checkpoint(output / "checkpoints") == output / "checkpoints" / "checkpoint-6"
    assert start(processes, tiny_backbone, texts, output, 0, resume=True) == 0
    assert_equal_runs(output, unbroken.output)


def test_a_disk_that_is_full_at_the_very_end(
    at_its_last_checkpoint: Path,
    unbroken: Unbroken,
    tiny_backbone: Path,
    texts: list[Path],
    monkeypatch: pytest.MonkeyPatch,
):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("spacy_openmed.training.dapt.save_file", full)
        with pytest.raises(OpenMedError, match=r"adapter could not be written.*No space left"):
            dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)
    assert not (at_its_last_checkpoint / "adapter").exists()
    dapt(str(tiny_backbone), texts, at_its_last_checkpoint, SETTINGS, resume=True)
    assert_equal_runs(at_its_last_checkpoint, unbroken.output)


@pytest.mark.parametrize("place", ["/proc/nowhere", "file"])
def test_a_place_that_cannot_be_written(
    tiny_backbone: Path, texts: list[Path], tmp_path: Path, place: str
):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpenMedError, match="cannot be written"):
        dapt(str(tiny_backbone), texts, tmp_path / place / "out", SETTINGS)
