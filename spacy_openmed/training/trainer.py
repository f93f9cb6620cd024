"""Hugging Face ``Trainer`` that saves only what it trains.

A checkpoint of the stock Trainer holds the whole model; here the backbone is frozen and
known by its hash, so a checkpoint is the trainable weights, the optimizer and the state.
"""

import json
import math
import os
import shutil
import sys
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from ..errors import OpenMedError
from ..precision import resolve_precision
from .settings import OptimSettings

TRAINABLE = "trainable.safetensors"
STATE = "trainer_state.json"
# How Python, safetensors and torch say that a file cannot be written; see is_write_error.
WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)
# Seconds between two lines where there is no terminal to draw a bar on.
_QUIET = 60.0


class Diverged(OpenMedError):
    """The loss, a gradient or a weight is no finite number: nothing more would be learned."""


def training_arguments(optim: OptimSettings, output: Path, **extra: Any) -> TrainingArguments:
    """Translate our settings; works on transformers 4.45 to 5.

    optim (OptimSettings): The settings.
    output (Path): Folder for checkpoints.
    RAISES (OpenMedError): Several GPUs, but one process.
    """
    precision = resolve_precision(optim.precision)
    on_cpu = not torch.cuda.is_available()
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": optim.batch_size,
        "gradient_accumulation_steps": optim.accumulation,
        "learning_rate": optim.learning_rate,
        "weight_decay": optim.weight_decay,
        "num_train_epochs": optim.epochs,
        "max_steps": optim.max_steps,
        "max_grad_norm": optim.max_grad_norm,
        "lr_scheduler_type": "cosine",
        "seed": optim.seed,
        "data_seed": optim.seed,
        "use_cpu": on_cpu,
        "report_to": [],
        "remove_unused_columns": False,
        # The filter would hide that a run diverges, and asks the device at every step.
        "logging_nan_inf_filter": False,
        # Else a resumed run would have its whole patience again.
        "restore_callback_states_from_checkpoint": True,
        "dataloader_pin_memory": not on_cpu,
        # All that is trained is used in every step, and looking for what is not takes time.
        "ddp_find_unused_parameters": False,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        **extra,
    }
    arguments.update(_warmup(optim))
    if optim.gradient_checkpointing:
        arguments["gradient_checkpointing"] = True
        # PyTorch's default (reentrant) freezes LoRA without a word: the inputs of the
        # checkpointed layers need no gradient, so none flows to the adapter.
        arguments["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    # TrainingArguments leave their format in the environment, where the next run of the
    # process would find it: fp32 after bf16 would be bf16.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no" if precision == "fp32" else precision
    made = TrainingArguments(**arguments)
    if made.n_gpu > 1:
        # The Trainer would take torch's DataParallel: slower than one GPU for small models,
        # and with another batch size than the settings say.
        raise OpenMedError(
            f"There are {made.n_gpu} GPUs and one process. Start one for each: torchrun "
            f"--nproc-per-node {made.n_gpu} -m spacy_openmed …; or choose a GPU with "
            f"CUDA_VISIBLE_DEVICES=0."
        )
    return made


def _warmup(optim: OptimSettings) -> dict[str, float]:
    if int(transformers.__version__.split(".")[0]) >= 5:
        # A number below 1 is a share.
        return {"warmup_steps": optim.warmup_steps or optim.warmup_ratio}
    return {
        "warmup_steps": optim.warmup_steps,
        "warmup_ratio": 0.0 if optim.warmup_steps else optim.warmup_ratio,
    }


class TrainableOnlyTrainer(Trainer):
    """Trainer whose checkpoints hold the trainable parameters instead of the model."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # Older transformers call it at every step.
            warnings.filterwarnings("ignore", r"`torch\.cpu\.amp\.autocast", FutureWarning)
            return super().train(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the Trainer's own.

        RAISES (Diverged): Loss or gradients are no finite numbers.
        """
        names = ["loss"]
        # In fp16 gradients overflow now and then; such an update is left out, no more.
        if not self.args.fp16:
            names.append("grad_norm")
        for name in names:
            if not math.isfinite(logs.get(name, 0.0)):
                raise self._diverged(f"{name} is {logs[name]}")
        super().log(logs, *args, **kwargs)

    def check_finite(self) -> None:
        """Refuse to go on with weights that are no finite numbers.

        RAISES (Diverged): Some are not.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]  # type: ignore[union-attr]
        if not torch.stack([p.detach().isfinite().all() for p in trained]).all():
            raise self._diverged("weights are no finite numbers")

    def _diverged(self, what: str) -> Diverged:
        precision = "fp16" if self.args.fp16 else "bf16" if self.args.bf16 else "fp32"
        wider = "" if precision == "fp32" else f', or set precision = "fp32" (it is {precision})'
        return Diverged(
            f"Training has diverged: {what} at update {self.state.global_step} of "
            f"{self.state.max_steps}. Lower learning_rate (it is {self.args.learning_rate:g}), "
            f"lengthen the warm-up{wider}."
        )

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        super().save_model(*args, **kwargs)
        # Next, all processes look for the folder of the best checkpoint, which may be this one.
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.check_finite()
        try:
            super()._save_checkpoint(*args, **kwargs)
        except WRITE_ERRORS as error:
            if not is_write_error(error):
                raise
            folder = Path(self.args.output_dir)
            part = folder / f"checkpoint-{self.state.global_step}"
            if _is_complete(part):
                # The Trainer removes older ones right after, in the same function.
                raise OpenMedError(
                    f"Checkpoint {part} is complete, but an older one could not be removed "
                    f"({error}). See to the rights and the disk, and go on with --resume."
                ) from error
            # Of several processes the others may still be writing to it.
            if self.args.should_save:
                shutil.rmtree(part, ignore_errors=True)
            earlier = last_checkpoint(folder)
            kept = f"{earlier} is intact" if earlier else "There is no earlier one"
            raise OpenMedError(
                f"Checkpoint {part} could not be written ({error}). {kept}. Make room on the disk "
                f"and go on with --resume."
            ) from error

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The state that makes a checkpoint complete is written next, by the main process.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Newer transformers ask all processes.
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / (TRAINABLE + ".part")
        save_file(trainable_state(self.model), str(part))
        os.replace(part, folder / TRAINABLE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trainable(model or self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_best(self.model, self.state, Path(self.args.output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _numpy_state_allowed():
            super()._load_rng_state(checkpoint)


def is_write_error(error: BaseException) -> bool:
    """Whether one of ``WRITE_ERRORS`` is about a file.

    torch says so with a plain RuntimeError, and what is out of memory, or lost its peers, with
    kinds of its own or, in older releases and on CPUs, with CUDA's or gloo's own words.
    """
    if isinstance(error, RuntimeError):
        words = str(error)
        return type(error) is RuntimeError and "CUDA" not in words and "gloo" not in words
    return isinstance(error, WRITE_ERRORS)


def _numpy_state_allowed() -> AbstractContextManager[Any]:
    # Since 2.6 torch reads nothing but what it knows, and older transformers do not tell it
    # of NumPy's generator state.
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    state = np.empty(0, dtype=np.uint32)
    allowed: list[Any] = [state.__reduce__()[0], np.ndarray, np.dtype, type(state.dtype)]
    return torch.serialization.safe_globals(allowed)


def trainable_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name to value of the parameters that are trained, on the CPU."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trainable(model: torch.nn.Module, folder: Path) -> None:
    """Put the parameters of a checkpoint back.

    RAISES (OpenMedError): The checkpoint is of another model.
    """
    saved = load_file(str(folder / TRAINABLE))
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if set(saved) != set(wanted) or any(saved[n].shape != wanted[n].shape for n in saved):
        raise OpenMedError(
            f"Checkpoint {folder} does not fit the model: it was written by a run with other "
            f"settings (LoRA rank or targets) or labels. Start over in another output folder."
        )
    with torch.no_grad():
        for name, value in saved.items():
            wanted[name].copy_(value)


def load_best(model: torch.nn.Module, state: TrainerState, folder: Path) -> None:
    """Put the parameters of the best checkpoint back.

    folder (Path): The checkpoints', wherever it was when they were written.
    """
    load_trainable(model, folder / Path(str(state.best_model_checkpoint)).name)


def checkpoint_to_resume(folder: Path, resume: bool) -> Path | None:
    """Where a run goes on from; None where it starts anew.

    RAISES (OpenMedError): There are checkpoints, but the run is not to be resumed. Beside
        new ones they would be mistaken for theirs.
    """
    if resume:
        return last_checkpoint(folder)
    if any(folder.glob("checkpoint-*")):
        raise OpenMedError(
            f"{folder} has checkpoints of an earlier run. Go on with --resume, remove them, or "
            f"choose another --output."
        )
    return None


def is_over(state: TrainerState) -> bool:
    """Whether a training had nothing left to do at a checkpoint. The Trainer would go on."""
    control = state.stateful_callbacks.get("TrainerControl", {})
    told = bool(control.get("args", {}).get("should_training_stop"))
    return told or state.global_step >= state.max_steps


def discard_incomplete(folder: Path) -> None:
    """Remove what a run that was killed left of a checkpoint that it wrote or deleted.

    The Trainer keeps so many checkpoints, and takes these for some.
    """
    for checkpoint in folder.glob("checkpoint-*"):
        if not _is_complete(checkpoint):
            shutil.rmtree(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder; a half-written one is passed over."""
    steps = {p: p.name.rsplit("-", 1)[1] for p in folder.glob("checkpoint-*")}
    complete = [p for p, step in steps.items() if step.isdecimal() and _is_complete(p)]
    return max(complete, key=lambda p: int(steps[p]), default=None)


def _is_complete(checkpoint: Path) -> bool:
    # The state is what the Trainer writes last, and not in one go.
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / TRAINABLE).is_file()


class OfPass(Protocol):
    """What is another in every pass over the data.

    current_pass (int): From 0.
    """

    current_pass: int


class Passes(TrainerCallback):
    """Tells what depends on it which pass over the data begins.

    What accelerate puts around a sampler does not always hand the number through.

    parts (OfPass): Orders and masks.
    """

    def __init__(self, *parts: OfPass) -> None:
        self._parts = parts
        self._next: int | None = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        current = int(state.epoch or 0) if self._next is None else self._next
        for part in self._parts:
            part.current_pass = current
        self._next = current + 1


class Batches(Protocol):
    """What makes the batches of this process, and counts.

    wordpieces (int): So far.
    """

    @property
    def wordpieces(self) -> int: ...


class Progress(TrainerCallback):
    """One bar for a phase of training, with loss and speed; without a terminal, a line a minute.

    It also notes in each row of the log how long the phase has taken, all its sessions
    together; and has a row written with every checkpoint, so that a run that was broken off
    logs what an unbroken one logs.

    name (str): Of the phase.
    batches (Batches): What counts.
    """

    def __init__(self, name: str, batches: Batches) -> None:
        self.name = name
        self.batches = batches

    def attach(self, trainer: Trainer) -> None:
        """Take the place of the Trainer's own way to show progress (``disable_tqdm``)."""
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = time.monotonic() - (noted(state.log_history, "seconds") or 0.0)
        self._spoke = self._since = time.monotonic()
        self._read = self.batches.wordpieces
        self._bar = tqdm(
            desc=self.name,
            total=state.max_steps,
            initial=state.global_step,
            unit="update",
            dynamic_ncols=True,
            # None: only on a terminal.
            disable=None if state.is_world_process_zero else True,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)
        if control.should_save:
            control.should_log = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        now = time.monotonic()
        row = state.log_history[-1]
        row["seconds"] = round(now - self._begun, 1)
        if "loss" not in logs or not state.is_world_process_zero:
            return
        read = self.batches.wordpieces
        speed = (read - self._read) * args.world_size / max(now - self._since, 1e-3)
        self._since, self._read = now, read
        text = f"loss {logs['loss']:.3f}, {speed:,.0f} wordpieces/s"
        self._bar.set_postfix_str(text)
        is_last = state.global_step >= state.max_steps
        if self._bar.disable and (is_last or now - self._spoke >= _QUIET):
            self._spoke = now
            where = f"{state.global_step}/{state.max_steps} updates"
            print(f"{self.name}: {where}, {text}", file=sys.stderr, flush=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()


def noted(history: list[dict[str, Any]], name: str) -> float | None:
    """What the last row of a log that has such an entry says."""
    return next((float(row[name]) for row in reversed(history) if name in row), None)
