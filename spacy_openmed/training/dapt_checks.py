"""What a pre-training run refuses, before anything is computed."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..windows import SpecialTokens
from .dapt_files import ADAPTER, CHECKPOINTS, HEAD_CHECKPOINTS, RUN, SETTLE_CHECKPOINTS
from .masked_lm import MIN_WORDPIECES
from .settings import DaptSettings, OptimSettings
from .trainer import checkpoint_to_resume

# What may differ when a run goes on: neither changes what is computed.
_FREE = ("settings.save_steps", "settings.optim.gradient_checkpointing")


def check_settings(settings: DaptSettings, texts: Sequence[Path]) -> None:
    """Refuse settings that make no sense, and texts that a run could not tell apart."""
    optim = settings.optim
    rules: list[tuple[str, float, bool, str]] = [
        (
            "mask_probability",
            settings.mask_probability,
            0 < settings.mask_probability < 1,
            "between 0 and 1",
        ),
        ("head_steps", settings.head_steps, settings.head_steps >= 0, "0 or more"),
        ("keep", settings.keep, 0 < settings.keep <= 1, "above 0, at most 1"),
        ("settle_steps", settings.settle_steps, settings.settle_steps >= 0, "0 or more"),
        ("save_steps", settings.save_steps, settings.save_steps > 0, "1 or more"),
        ("batch_size", optim.batch_size, optim.batch_size > 0, "1 or more"),
        ("accumulation", optim.accumulation, optim.accumulation > 0, "1 or more"),
        ("epochs", optim.epochs, optim.epochs > 0, "more than 0"),
        (
            "max_steps",
            optim.max_steps,
            optim.max_steps == -1 or optim.max_steps > 0,
            "1 or more, or -1 to go by epochs",
        ),
        ("warmup_steps", optim.warmup_steps, optim.warmup_steps >= 0, "0 or more"),
        ("warmup_ratio", optim.warmup_ratio, 0 <= optim.warmup_ratio < 1, "0 or more, below 1"),
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


def check_window(settings: DaptSettings, special: SpecialTokens, config: Any) -> None:
    """Refuse a window that the backbone cannot read, or too short to predict from."""
    least = MIN_WORDPIECES + special.count
    most = int(getattr(config, "max_position_embeddings", 0) or settings.window)
    if not least <= settings.window <= most:
        raise OpenMedError(
            f"window = {settings.window}: this backbone takes {least} to {most} wordpieces, "
            f"special tokens included."
        )


def check_warmup(optim: OptimSettings, windows: int, processes: int) -> None:
    """Refuse a warm-up that is longer than the run."""
    batches = math.ceil(math.ceil(windows / optim.batch_size) / processes)
    updates = math.ceil(math.ceil(batches / optim.accumulation) * optim.epochs)
    if optim.max_steps > 0:
        updates = optim.max_steps
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
    try:
        before = json.loads((output / RUN).read_text(encoding="utf8"))
    except FileNotFoundError:
        if (output / ADAPTER).exists() or any(any(place.glob("*")) for place in places):
            raise OpenMedError(
                f"{output} has a run without {RUN}, so nobody can tell what it was begun with. "
                f"Choose another --output."
            ) from None
        return
    differing = _differences(before, now)
    if differing:
        raise OpenMedError(
            f"The run in {output} was begun with others than it is to go on with: "
            f"{'; '.join(differing)}. Give the same again, or choose another --output."
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    def compared(run: dict[str, Any]) -> dict[str, Any]:
        return {
            "backbone": run["backbone"]["sha256"],
            "processes": run["processes"],
            **_flat("settings", run["settings"]),
            # In the order they are read in, whatever their names are by now.
            **{f"text {i}": digest for i, digest in enumerate(run["texts"].values(), 1)},
        }

    old, new = compared(before), compared(now)
    return [
        f"{name} was {old.get(name, 'absent')}, is {new.get(name, 'absent')}"
        for name in dict.fromkeys([*old, *new])
        if name not in _FREE and old.get(name) != new.get(name)
    ]


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    found = {}
    for key, inner in value.items():
        found.update(_flat(f"{name}.{key}", inner))
    return found
