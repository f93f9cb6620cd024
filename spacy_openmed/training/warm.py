"""Beginning where the training on another corpus ended."""

import json
from dataclasses import replace
from typing import Any

import torch

from .. import adapters, lineage, network
from ..adapters import Adapter, AdapterInfo
from ..errors import OpenMedError
from ..network import TokenTagger
from .settings import LoraSettings

# With these a LoRA has not one rank and one alpha for all its matrices.
_NOT_ALIKE = ("use_rslora", "rank_pattern", "alpha_pattern")


def same_shape(settings: LoraSettings, start: Adapter) -> LoraSettings:
    """The settings with the rank, scale and targets of the adapter that is gone on from.

    RAISES (OpenMedError): They differ among its matrices.
    """
    config = start.lora_config
    if any(config.get(key) for key in _NOT_ALIKE) or not isinstance(config["target_modules"], str):
        raise OpenMedError(
            f"An adapter can be gone on from if its LoRA is plain (no {', '.join(_NOT_ALIKE)}) and "
            f"its target_modules are one regular expression."
        )
    return replace(
        settings,
        rank=config["r"],
        alpha=config["lora_alpha"],
        target_modules=config["target_modules"],
        embedding_rank=0,
    )


def go_on(model: TokenTagger, start: Adapter, info: AdapterInfo) -> None:
    """Take over the LoRA, and the head if it has the same labels.

    model (TokenTagger): Fresh, with a LoRA of ``same_shape``; it is changed in place.
    start (Adapter): What is gone on from.
    info (AdapterInfo): Of what is going to be trained.
    RAISES (OpenMedError): The adapter was trained on other weights than the model has.
    """
    own, its = info.backbone, start.info.backbone
    if own.sha256 != its.sha256:
        raise OpenMedError(
            f"The adapter to go on from is for backbone '{its.id}' ({its.sha256[:12]}), not for "
            f"'{own.id}' ({own.sha256[:12]})."
        )
    base = model.pretraining.sha256 if model.pretraining else ""
    if base != start.info.pretraining:
        wanted = (
            "Give the pre-training adapter that it had by --init-adapter, with init = 'merge'"
            if start.info.pretraining
            else "Its own pre-training, if it had one, is in its LoRA: give --init-adapter none"
        )
        raise OpenMedError(
            f"The adapter to go on from was trained on other weights than are trained here. "
            f"{wanted}."
        )
    network.load_lora(model.encoder, start.lora)
    if start.info.types == info.types:
        with torch.no_grad():
            model.head.weight.copy_(start.weight)
            model.head.bias.copy_(start.bias)


def record(start: Adapter) -> dict[str, Any]:
    """What a training record says of it.

    RETURNS (dict): "adapter" (its hash), "dataset", "types" and, if it has a training record,
        "runs": see ``lineage.made_by``.
    """
    sha256 = adapters.content_hash(start)
    found = {"adapter": sha256, "dataset": start.info.dataset, "types": list(start.info.types)}
    if adapters.TRAINING not in start.card:
        return found
    made = json.loads(start.card[adapters.TRAINING])
    return {**found, "runs": lineage.made_by(sha256, made)}
