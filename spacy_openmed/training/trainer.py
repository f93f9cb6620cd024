"""Hugging Face ``Trainer`` that saves only what it trains.

A checkpoint of the stock Trainer holds the whole model; here the backbone is frozen and
known by its hash, so a checkpoint is the trainable weights, the optimizer and the state.
"""

import inspect
import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainingArguments

from ..errors import OpenMedError
from ..precision import resolve_precision
from .settings import OptimSettings

TRAINABLE = "trainable.safetensors"


def training_arguments(optim: OptimSettings, output: Path, **extra: Any) -> TrainingArguments:
    """Translate our settings; works on transformers 4.45 to 5.

    optim (OptimSettings): The settings.
    output (Path): Folder for checkpoints.
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
        "gradient_checkpointing": optim.gradient_checkpointing,
        # PyTorch's default (reentrant) freezes LoRA without a word: the inputs of the
        # checkpointed layers need no gradient, so none flows to the adapter.
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "seed": optim.seed,
        "data_seed": optim.seed,
        "use_cpu": on_cpu,
        "report_to": [],
        "remove_unused_columns": False,
        # Else a resumed run would have its whole patience again.
        "restore_callback_states_from_checkpoint": True,
        "dataloader_pin_memory": not on_cpu,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        **extra,
    }
    known = inspect.signature(TrainingArguments.__init__).parameters
    if "warmup_ratio" in known and "warmup_steps" not in extra:
        arguments["warmup_ratio"] = optim.warmup_ratio
    elif "warmup_steps" not in extra:
        arguments["warmup_steps"] = optim.warmup_ratio  # a share, since transformers 5
    # TrainingArguments leave their format in the environment, where the next run of the
    # process would find it: fp32 after bf16 would be bf16.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no" if precision == "fp32" else precision
    return TrainingArguments(**arguments)


class TrainableOnlyTrainer(Trainer):
    """Trainer whose checkpoints hold the trainable parameters instead of the model."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / (TRAINABLE + ".part")
        save_file(trainable_state(self.model), str(part))
        os.replace(part, folder / TRAINABLE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trainable(model or self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_trainable(self.model, Path(str(self.state.best_model_checkpoint)))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _numpy_state_allowed():
            super()._load_rng_state(checkpoint)


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


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder; a half-written one is passed over."""
    steps = {p: p.name.rsplit("-", 1)[1] for p in folder.glob("checkpoint-*")}
    complete = [p for p, step in steps.items() if step.isdecimal() and _is_complete(p)]
    return max(complete, key=lambda p: int(steps[p]), default=None)


def _is_complete(checkpoint: Path) -> bool:
    # The state is what the Trainer writes last, and not in one go.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / TRAINABLE).is_file()
