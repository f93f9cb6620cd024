"""Pre-training adapters: what ``spacy openmed dapt`` writes, and how others build on it.

A folder in PEFT's format with the masked-LM heads and a record beside it:

    adapter_config.json, adapter_model.safetensors    PEFT's
    base_mlm_head.safetensors, mlm_head.safetensors   heads of the plain and adapted backbone
    dapt.json, README.md                              the record and the card

Nothing here imports spaCy.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import low_rank
from .adapters import LORA_CONFIG, LORA_WEIGHTS, SHIPPED
from .backbones import BackboneRef, file_sha256
from .errors import OpenMedError

if TYPE_CHECKING:
    import torch

RECORD = "dapt.json"
FOLDER = SHIPPED / "pretraining"


@dataclass(frozen=True, eq=False)
class Pretraining:
    """A pre-training adapter in memory.

    sha256 (str): Of its weights file: what task adapters record.
    config (dict): PEFT's adapter_config.json.
    lora (dict[str, Tensor]): PEFT's names to matrices.
    """

    sha256: str
    config: dict[str, Any]
    lora: "dict[str, torch.Tensor]"

    def deltas(self) -> Iterator[low_rank.Delta]:
        """What it adds to which weight of the encoder."""
        return low_rank.deltas(self.config, self.lora)


def find(backbone: BackboneRef) -> Path | None:
    """The pre-training adapter that ships for a backbone, None if there is none."""
    for record in sorted(FOLDER.glob(f"*/{RECORD}")):
        if json.loads(record.read_text(encoding="utf8"))["backbone"]["sha256"] == backbone.sha256:
            return record.parent
    return None


def sha256(folder: Path) -> str:
    """Hash of the weights of a pre-training adapter."""
    return file_sha256(folder / LORA_WEIGHTS)


def read(folder: Path, backbone: BackboneRef) -> Pretraining:
    """Read a pre-training adapter.

    backbone (BackboneRef): What it is wanted for.
    RAISES (OpenMedError): A file is missing or truncated, or it belongs to another backbone.
    """
    from safetensors.torch import load_file

    missing = [n for n in (LORA_CONFIG, LORA_WEIGHTS, RECORD) if not (folder / n).is_file()]
    if missing:
        raise OpenMedError(
            f"{folder} is not a pre-training adapter: it has no {', '.join(missing)}. "
            f"'spacy openmed dapt' writes such folders."
        )
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf8"))
        config = json.loads((folder / LORA_CONFIG).read_text(encoding="utf8"))
        tensors = load_file(str(folder / LORA_WEIGHTS))
        own = BackboneRef.from_dict(record["backbone"])
    except Exception as error:  # json and safetensors each have their own kinds
        raise OpenMedError(f"{folder} cannot be read, it may be truncated: {error!r}.") from error
    if own.sha256 != backbone.sha256:
        raise OpenMedError(
            f"The pre-training adapter in {folder} is for backbone '{own.id}' (sha256 "
            f"{own.sha256}), not for '{backbone.id}' (sha256 {backbone.sha256})."
        )
    low_rank.check(config, tensors, str(folder))
    return Pretraining(sha256(folder), config, tensors)


def merge(encoder: "torch.nn.Module", pretraining: Pretraining) -> None:
    """Add a pre-training adapter to the weights of an encoder.

    The weights become new ones: a masked-LM decoder that is tied to the embeddings keeps
    those it was trained with.
    """
    import torch

    for delta in pretraining.deltas():
        module = encoder.get_submodule(delta.path)
        weight: torch.Tensor = module.weight.detach()
        module.weight = torch.nn.Parameter(
            weight + delta.matrix(weight.device), requires_grad=False
        )
