"""Beginning where the training on another corpus ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import adapters
from ..adapters import Adapter, AdapterInfo
from ..backbones import BackboneRef
from ..errors import OpenMedError
from ..network import TokenTagger
from ..pretraining import Pretraining
from . import lora


def read(folder: Path, backbone: BackboneRef, base: Pretraining | None) -> Adapter:
    """The adapter to start from.

    folder (Path): Of the adapter.
    backbone (BackboneRef): What is going to be trained on.
    base (Pretraining | None): What is merged into it first.
    RAISES (OpenMedError): The adapter was trained on other weights than these.
    """
    start = adapters.read(folder)
    if start.info.backbone.sha256 != backbone.sha256:
        raise OpenMedError(
            f"The adapter in {folder} is for backbone '{start.info.backbone.id}' "
            f"({start.info.backbone.sha256[:12]}), not for '{backbone.id}' "
            f"({backbone.sha256[:12]})."
        )
    if start.info.pretraining != (base.sha256 if base else ""):
        raise OpenMedError(
            f"The adapter in {folder} was trained on another pre-training adapter than is to be "
            f"merged here. Give the same --init-adapter, and init = 'merge'."
        )
    return start


def go_on(model: TokenTagger, folder: Path, start: Adapter, info: AdapterInfo) -> None:
    """Take over the LoRA, and the head if it has the same labels.

    model (TokenTagger): Fresh; it is changed in place.
    folder (Path), start (Adapter): See ``read``.
    info (AdapterInfo): Of what is going to be trained.
    RAISES (OpenMedError): Its LoRA has another shape.
    """
    lora.continue_from(model.encoder, folder)
    if start.info.types == info.types:
        with torch.no_grad():
            model.head.weight.copy_(start.weight)
            model.head.bias.copy_(start.bias)


def record(start: Adapter) -> Mapping[str, Any]:
    """What a training record says of it.

    RETURNS (dict): "adapter" (its hash), "dataset" and "types".
    """
    return {
        "adapter": adapters.content_hash(start),
        "dataset": start.info.dataset,
        "types": list(start.info.types),
    }
