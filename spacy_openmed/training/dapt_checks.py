"""What a pre-training run refuses, before anything is computed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import OpenMedError
from ..inference import positions
from ..windows import SpecialTokens
from . import begun
from .begun import RUN
from .dapt_files import ADAPTER, CHECKPOINTS, HEAD_CHECKPOINTS, SETTLE_CHECKPOINTS
from .masked_lm import BASE_HEAD, MIN_WORDPIECES
from .settings import DaptSettings, OptimSettings
from .trainer import checkpoint_to_resume

# What may differ when a run goes on: none changes what is computed. Of the precision, what it
# comes to on this machine is compared.
_FREE = (
    "spacy_openmed",
    "settings.save_steps",
    "settings.optim.gradient_checkpointing",
    "settings.optim.precision",
)


def check_settings(settings: DaptSettings, texts: Sequence[Path]) -> None:
    """Refuse settings that make no sense, and texts that a run could not tell apart."""
    optim, lora = settings.optim, settings.lora
    rules: list[tuple[str, float, bool, str]] = [
        (
            "mask_probability",
            settings.mask_probability,
            0 < settings.mask_probability < 1,
            "between 0 and 1",
        ),
        ("head_steps", settings.head_steps, settings.head_steps >= 0, "0 or more"),
        (
            "head_learning_rate",
            settings.head_learning_rate,
            0 < settings.head_learning_rate < math.inf,
            "more than 0",
        ),
        ("keep", settings.keep, 0 < settings.keep <= 1, "above 0, at most 1"),
        ("settle_steps", settings.settle_steps, settings.settle_steps >= 0, "0 or more"),
        ("save_steps", settings.save_steps, settings.save_steps > 0, "1 or more"),
        ("batch_size", optim.batch_size, optim.batch_size > 0, "1 or more"),
        ("accumulation", optim.accumulation, optim.accumulation > 0, "1 or more"),
        ("learning_rate", optim.learning_rate, 0 < optim.learning_rate < math.inf, "more than 0"),
        ("weight_decay", optim.weight_decay, 0 <= optim.weight_decay < math.inf, "0 or more"),
        ("epochs", optim.epochs, 0 < optim.epochs < math.inf, "more than 0, and finite"),
        (
            "max_steps",
            optim.max_steps,
            optim.max_steps == -1 or optim.max_steps > 0,
            "1 or more, or -1 to go by epochs",
        ),
        ("warmup_steps", optim.warmup_steps, optim.warmup_steps >= 0, "0 or more"),
        ("warmup_ratio", optim.warmup_ratio, 0 <= optim.warmup_ratio < 1, "0 or more, below 1"),
        ("max_grad_norm", optim.max_grad_norm, optim.max_grad_norm >= 0, "0 or more"),
        # What NumPy takes.
        ("seed", optim.seed, 0 <= optim.seed < 2**32, "0 or more, below 2^32"),
        ("rank", lora.rank, lora.rank > 0, "1 or more"),
        ("alpha", lora.alpha, lora.alpha > 0, "1 or more"),
        ("dropout", lora.dropout, 0 <= lora.dropout < 1, "0 or more, below 1"),
        ("embedding_rank", lora.embedding_rank, lora.embedding_rank >= 0, "0 or more"),
    ]
    wrong = [f"{name} = {value}: must be {wish}" for name, value, ok, wish in rules if not ok]
    if wrong:
        raise OpenMedError(f"Settings that make no sense: {'; '.join(wrong)}.")
    if not texts:
        raise OpenMedError("No text to train on: name at least one file.")
    names = sorted(path.name for path in texts)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OpenMedError(
            f"Several texts are named {', '.join(twice)}, and a run tells them apart by name. "
            f"Rename them."
        )


def check_window(settings: DaptSettings, special: SpecialTokens, encoder: torch.nn.Module) -> None:
    """Refuse a window that the backbone cannot read, or too short to predict from."""
    least = MIN_WORDPIECES + special.count
    most = positions(encoder) or settings.window
    if not least <= settings.window <= most:
        raise OpenMedError(
            f"window = {settings.window}: this backbone takes {least} to {most} wordpieces, "
            f"special tokens included."
        )
    inside = settings.window - special.count
    if not 0 <= settings.overlap < inside:
        raise OpenMedError(
            f"overlap = {settings.overlap}: must be 0 or more, and less than a window holds "
            f"without special tokens ({inside})."
        )


def check_warmup(optim: OptimSettings, windows: int, update: int) -> None:
    """Refuse a warm-up that is longer than the run.

    windows, update (int): Windows of a pass, and of an update of all processes.
    """
    updates = optim.max_steps
    if updates <= 0:
        updates = math.ceil(windows // update * optim.epochs)
    if optim.warmup_steps >= updates:
        raise OpenMedError(
            f"warmup_steps = {optim.warmup_steps}, but the run has {updates} updates: the learning "
            f"rate would never reach its peak. Lower it, or set it to 0 for warmup_ratio."
        )


def check_begun(output: Path, now: dict[str, Any], resume: bool) -> None:
    """Refuse to build over a run, or to go on with another one."""
    places = [output / p for p in (HEAD_CHECKPOINTS, CHECKPOINTS, SETTLE_CHECKPOINTS)]
    if not resume:
        if (output / ADAPTER).exists():
            raise OpenMedError(
                f"{output / ADAPTER} exists. Choose another --output, or --resume the run there."
            )
        for place in places:
            checkpoint_to_resume(place, resume)
        return
    if begun.check(output / RUN, now, _FREE):
        return
    files = (output / ADAPTER, output / BASE_HEAD)
    if any(file.exists() for file in files) or any(any(place.glob("*")) for place in places):
        raise OpenMedError(
            f"{output} has a run without {RUN}, so nobody can tell what it was begun with. "
            f"Choose another --output."
        )
