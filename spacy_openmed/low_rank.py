"""Low-rank updates as PEFT saves them: what to add to which weight.

W = W0 + s·B·A (Hu et al., arXiv 2106.09685, equation 3), s = alpha / r.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import OpenMedError

if TYPE_CHECKING:
    import torch

# PEFT's files.
LORA_CONFIG = "adapter_config.json"
LORA_WEIGHTS = "adapter_model.safetensors"

PREFIX = "base_model.model."
# How PEFT ends the names of A and B.
LINEAR = (".lora_A.weight", ".lora_B.weight")
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")
# Kinds of LoRA whose update is not s·B·A alone.
_OTHER_KINDS = ("use_dora", "modules_to_save")


class Delta(NamedTuple):
    """An update of one weight.

    path (str): The module in the encoder.
    a (Tensor[rank, columns]), b (Tensor[rows, rank]): Of the weight as PyTorch stores it.
    scale (float): s.
    """

    path: str
    a: "torch.Tensor"
    b: "torch.Tensor"
    scale: float

    def matrix(self, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """RETURNS (float32[rows, columns]): s·B·A."""
        product: torch.Tensor = self.b.to(device).float() @ self.a.to(device).float()
        return product * self.scale


def merged(weight: "torch.Tensor", updates: "Sequence[Delta]") -> "torch.Tensor":
    """A weight with its updates, in one matrix product however many they are.

    weight (float32[rows, columns]): W0, which stays as it is.
    updates (Sequence[Delta]): Of this weight.
    RETURNS (float32[rows, columns]): W0 + Σ s·B·A; ``weight`` itself if there are none.
    """
    import torch

    if not updates:
        return weight
    device = weight.device
    b = torch.cat([u.b.to(device).float() * u.scale for u in updates], dim=1)
    a = torch.cat([u.a.to(device).float() for u in updates])
    return torch.addmm(weight, b, a)


def deltas(config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]") -> Iterator[Delta]:
    """The updates of a PEFT adapter.

    config (Mapping): adapter_config.json.
    tensors (Mapping[str, Tensor]): adapter_model.safetensors, linear layers and embeddings.
    """
    for name, tensor in tensors.items():
        if name.endswith(LINEAR[0]):
            stem = name.removesuffix(LINEAR[0])
            a, b = tensor, tensors[stem + LINEAR[1]]
        elif name.endswith(EMBEDDING[0]):
            stem = name.removesuffix(EMBEDDING[0])
            # An embedding is stored transposed: a row for each wordpiece.
            a, b = tensors[stem + EMBEDDING[1]].T, tensor.T
        else:
            continue
        path = stem.removeprefix(PREFIX)
        alpha = _pattern(config.get("alpha_pattern"), path, config["lora_alpha"])
        rank = a.shape[0]
        yield Delta(path, a, b, alpha / (rank**0.5 if config.get("use_rslora") else rank))


def nearest(
    config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]", rank: int
) -> "dict[str, torch.Tensor]":
    """The matrices of another rank whose updates are nearest to those of an adapter.

    By singular values (Eckart and Young 1936), from A and B alone: the update is never put
    together. alpha stays, so that the scale is that of the new rank.

    config (Mapping): adapter_config.json, of a LoRA on linear layers, of one rank and alpha.
    tensors (Mapping[str, Tensor]): adapter_model.safetensors.
    rank (int): At most that of the adapter.
    RETURNS (dict[str, Tensor]): As ``tensors``, float16 where those are.
    """
    import torch

    found = {}
    for name, a in tensors.items():
        if not name.endswith(LINEAR[0]):
            continue
        other = name.removesuffix(LINEAR[0]) + LINEAR[1]
        b = tensors[other]
        left, inner = torch.linalg.qr(b.double())
        right, outer = torch.linalg.qr(a.double().T)
        u, values, v = torch.linalg.svd(inner @ outer.T)
        # s·B·A, by the scale that the new rank gives.
        values = values[:rank] * (rank / config["r"])
        root = values.sqrt()
        found[name] = ((v[:rank] * root[:, None]) @ right.T).to(a.dtype).contiguous()
        found[other] = (left @ (u[:, :rank] * root)).to(b.dtype).contiguous()
    return {name: found[name] for name in tensors}


def check(config: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor]", source: str) -> None:
    """See that an adapter is plain LoRA, and that its matrices pair up.

    source (str): Where it comes from, for messages.
    RAISES (OpenMedError): It is not, or they do not.
    """
    other = [name for name in _OTHER_KINDS if config.get(name)]
    if config.get("peft_type") != "LORA" or other:
        raise OpenMedError(
            f"adapter_config.json in {source}: only plain LoRA can be merged into a shared "
            f"backbone (found {config.get('peft_type')} {', '.join(other)})."
        )
    suffixes = (*LINEAR, *EMBEDDING)
    stems: dict[str, set[str]] = {suffix: set() for suffix in suffixes}
    for name, tensor in tensors.items():
        suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
        if suffix is None:
            raise OpenMedError(
                f"adapter_model.safetensors in {source}: {name} is neither an A nor a B matrix, "
                f"and only plain LoRA can be merged into a shared backbone."
            )
        stem = name.removesuffix(suffix)
        stems[suffix].add(stem)
        rank = _pattern(config.get("rank_pattern"), stem.removeprefix(PREFIX), config["r"])
        is_a = suffix in (LINEAR[0], EMBEDDING[0])
        if tensor.ndim != 2 or tensor.shape[0 if is_a else 1] != rank:
            raise OpenMedError(
                f"adapter_model.safetensors in {source}: {name} has shape {tuple(tensor.shape)}, "
                f"which is not rank {rank}. Weights and adapter_config.json are not of the same "
                f"adapter."
            )
    if not tensors or any(stems[a] != stems[b] for a, b in (LINEAR, EMBEDDING)):
        raise OpenMedError(
            f"adapter_model.safetensors in {source}: A and B matrices do not pair up."
        )


def _pattern(patterns: Mapping[str, float] | None, path: str, default: float) -> float:
    """PEFT's rule: the first pattern that matches the end of the module's path."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default
