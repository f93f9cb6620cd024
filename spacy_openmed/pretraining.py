"""Pre-training adapters: what ``spacy openmed dapt`` writes, and how others build on it.

A folder in PEFT's format with the masked-LM heads and a record beside it:

    adapter_config.json, adapter_model.safetensors    PEFT's
    base_mlm_head.safetensors, mlm_head.safetensors   heads of the plain and adapted backbone
    dapt.json, README.md                              the record and the card

Nothing here imports spaCy.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import low_rank
from .backbones import HOME, BackboneRef, file_sha256
from .errors import OpenMedError
from .low_rank import LORA_CONFIG, LORA_WEIGHTS

if TYPE_CHECKING:
    import torch

RECORD = "dapt.json"
# Those that ship with the package, a folder for each backbone.
SHIPPED = Path(__file__).parent / "shipped" / "pretraining"
_FILES = (LORA_CONFIG, LORA_WEIGHTS, RECORD)


@dataclass(frozen=True, eq=False)
class Pretraining:
    """A pre-training adapter in memory.

    sha256 (str): Of its weights file: what task adapters record.
    backbone (BackboneRef): What it was trained on.
    config (dict): PEFT's adapter_config.json.
    lora (dict[str, Tensor]): PEFT's names to matrices.
    files (dict[str, bytes]): Its files by name, without heads and card.
    """

    sha256: str
    backbone: BackboneRef
    config: dict[str, Any]
    lora: "dict[str, torch.Tensor]"
    files: dict[str, bytes]

    def deltas(self) -> Iterator[low_rank.Delta]:
        """What it adds to which weight of the encoder."""
        return low_rank.deltas(self.config, self.lora)

    @property
    def is_shipped(self) -> bool:
        """Whether every installation of this version has it."""
        return any(
            file_sha256(folder / LORA_WEIGHTS) == self.sha256 for folder in _folders(SHIPPED)
        )


def find(backbone: BackboneRef) -> Path | None:
    """The pre-training adapter that ships for a backbone, None if there is none."""
    for folder in _folders(SHIPPED):
        record = json.loads((folder / RECORD).read_text(encoding="utf8"))
        if record["backbone"]["sha256"] == backbone.sha256:
            return folder
    return None


def with_sha256(wanted: str, source: str) -> Pretraining:
    """The pre-training adapter with these weights: shipped, or in OPENMED_HOME/pretraining.

    source (str): What needs it, for the message.
    RAISES (OpenMedError): Not here; lists what was tried. Without it the task adapter would
        run, and compute something else.
    """
    tried = []
    home = os.environ.get(HOME)
    for place in (SHIPPED, *([Path(home) / "pretraining"] if home else [])):
        for folder in _folders(place):
            if file_sha256(folder / LORA_WEIGHTS) == wanted:
                return read(folder)
            tried.append(str(folder))
    raise OpenMedError(
        f"The adapter in {source} was trained on top of a pre-training adapter (sha256 {wanted}) "
        f"that is not here. Tried: {', '.join(tried) or 'nothing is installed'}. Put its folder "
        f"into ${HOME}/pretraining, or install the version of spacy-openmed that has it."
    )


def _folders(place: Path) -> list[Path]:
    return sorted(record.parent for record in place.glob(f"*/{RECORD}"))


def read(folder: Path) -> Pretraining:
    """Read a pre-training adapter, once for each version of its files.

    RAISES (OpenMedError): A file is missing or truncated.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise OpenMedError(
            f"{folder} is not a pre-training adapter: it has no {', '.join(missing)}. "
            f"'spacy openmed dapt' writes such folders."
        )
    return _read(folder, file_sha256(folder / LORA_WEIGHTS))


@cache
def _read(folder: Path, weights: str) -> Pretraining:
    # Task adapters that share it share one copy, and are known to by identity.
    return from_files({name: (folder / name).read_bytes() for name in _FILES}, str(folder))


def from_files(files: Mapping[str, bytes], source: str) -> Pretraining:
    """Make a pre-training adapter from the contents of its files.

    source (str): Where they come from, for messages.
    RAISES (OpenMedError): Truncated, or not plain LoRA.
    """
    from safetensors.torch import load

    try:
        record = json.loads(files[RECORD])
        backbone = BackboneRef.from_dict(record["backbone"])
        config = json.loads(files[LORA_CONFIG])
        tensors = load(files[LORA_WEIGHTS])
    except Exception as error:  # json and safetensors each have their own kinds
        raise OpenMedError(
            f"The pre-training adapter in {source} cannot be read, it may be truncated: {error!r}."
        ) from error
    low_rank.check(config, tensors, source)
    digest = hashlib.sha256(files[LORA_WEIGHTS]).hexdigest()
    return Pretraining(digest, backbone, config, tensors, dict(files))


def verify_backbone(pretraining: Pretraining, backbone: BackboneRef, source: str) -> None:
    """Refuse to put a pre-training adapter on another backbone than its own.

    RAISES (OpenMedError): The hashes differ.
    """
    own = pretraining.backbone
    if own.sha256 != backbone.sha256:
        raise OpenMedError(
            f"The pre-training adapter in {source} is for backbone '{own.id}' (sha256 "
            f"{own.sha256}), not for '{backbone.id}' (sha256 {backbone.sha256})."
        )


def merge(encoder: "torch.nn.Module", pretraining: Pretraining) -> None:
    """Add a pre-training adapter to the weights of an encoder.

    The weights become new ones: a masked-LM decoder that is tied to the embeddings keeps
    those it was trained with.
    """
    import torch

    for delta in pretraining.deltas():
        module: Any = encoder.get_submodule(delta.path)
        weight = module.weight.detach()
        module.weight = torch.nn.Parameter(
            weight + delta.matrix(weight.device), requires_grad=False
        )
