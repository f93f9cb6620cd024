"""LoRA around an encoder, as PEFT does it."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from .. import pretraining
from ..errors import OpenMedError
from ..low_rank import LORA_WEIGHTS
from ..network import load_lora
from .settings import LoraSettings

# PEFT takes for granted that someone has imported it, which older transformers do not. Older
# torch does not have it, and is not asked for it.
with suppress(ImportError):
    import torch.distributed.tensor

# The name that BERT, ELECTRA and DeBERTa share.
WORD_EMBEDDINGS = "word_embeddings"


def lora_config(settings: LoraSettings) -> LoraConfig:
    """Our settings as PEFT's."""
    pattern = settings.target_modules
    ranks = {}
    alphas = {}
    if settings.embedding_rank:
        pattern = rf"({pattern})|(.*\.)?{WORD_EMBEDDINGS}"
        ranks[WORD_EMBEDDINGS] = settings.embedding_rank
        # The same scale, alpha / r, as everywhere.
        alphas[WORD_EMBEDDINGS] = settings.alpha * settings.embedding_rank / settings.rank
    return LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=pattern,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        bias="none",
    )


def wrap(encoder: torch.nn.Module, settings: LoraSettings) -> PeftModel:
    """Add a fresh LoRA to an encoder, in place; everything else is frozen.

    RAISES (OpenMedError): ``target_modules`` does not fit this encoder.
    """
    check_targets(encoder, settings)
    try:
        model = get_peft_model(encoder, lora_config(settings))  # type: ignore[arg-type]
    except ValueError as error:
        raise _unfit(encoder, settings, str(error)) from error
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            # Autocast would undo PEFT's cast of the input at once; without autocast both are fp32.
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]
    return model


def check_targets(encoder: torch.nn.Module, settings: LoraSettings) -> None:
    """Refuse ``target_modules`` that ``wrap`` could do nothing with.

    RAISES (OpenMedError): They are no regular expression, match nothing in this encoder, or
        match what has no matrix.
    """
    try:
        pattern = re.compile(settings.target_modules)
    except re.error as error:
        raise OpenMedError(
            f"LoRA target_modules = {settings.target_modules!r} is not a regular expression: "
            f"{error}."
        ) from error
    matched = {n: m for n, m in encoder.named_modules() if pattern.fullmatch(n)}
    if not matched:
        raise _unfit(encoder, settings, "it matches none of its modules.")
    for name, module in matched.items():
        if not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            kind = type(module).__name__
            raise _unfit(encoder, settings, f"it matches {name!r}, which is a {kind}.")


def _unfit(encoder: torch.nn.Module, settings: LoraSettings, reason: str) -> OpenMedError:
    names = sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in encoder.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
    )
    return OpenMedError(
        f"LoRA target_modules = {settings.target_modules!r} does not fit this backbone: "
        f"{reason} Its linear layers are named {', '.join(names)}."
    )


def same_shape(settings: LoraSettings, folder: Path) -> LoraSettings:
    """The settings with the rank, scale and targets of the pre-training that is continued.

    folder (Path): Pre-training adapter; any other PEFT folder must have the settings' shape.
    """
    record = folder / pretraining.RECORD
    if not record.is_file():
        return settings
    trained = json.loads(record.read_text(encoding="utf8"))["settings"]["lora"]
    return replace(LoraSettings(**trained), dropout=settings.dropout)


def scale(model: PeftModel, factor: float) -> None:
    """Multiply what a LoRA adds to its encoder, in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name or ".lora_embedding_B." in name:
                parameter.mul_(factor)


def without_dropout(model: PeftModel) -> None:
    """Leave what goes into a LoRA as it is from now on, in training, too."""
    for name, module in model.named_modules():
        if ".lora_dropout." in name and isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def continue_from(model: PeftModel, folder: Path) -> None:
    """Start from the LoRA weights of a PEFT folder instead of from fresh ones.

    This is how pre-training goes on in fine-tuning: the same low-rank matrices, a new head.

    RAISES (OpenMedError): Rank or target modules differ.
    """
    weights = folder / LORA_WEIGHTS
    if not weights.is_file():
        raise OpenMedError(f"{folder} has no {LORA_WEIGHTS}: it is not a PEFT adapter folder.")
    saved = load_file(str(weights))
    wanted = get_peft_model_state_dict(model)
    differing = sorted(
        name
        for name in set(saved) | set(wanted)
        if name not in saved or name not in wanted or saved[name].shape != wanted[name].shape
    )
    if differing:
        raise OpenMedError(
            f"The LoRA in {folder} differs in {len(differing)} matrices from the settings' "
            f"(first: {differing[0]}): use the rank and target_modules it was trained with."
        )
    load_lora(model, saved)
