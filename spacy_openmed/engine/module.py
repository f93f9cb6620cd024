"""Any encoder, run as transformers has it."""

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch

from ..errors import OpenMedError
from .linear import DTYPES, product


class ModuleEngine:
    """An encoder of its own whose weights, in fp32, are the backbone's until one is changed.

    encoder (PreTrainedModel): In fp32.
    precision (str): "fp32", "bf16" or "fp16".
    compiled (bool): By torch.compile.
    RAISES (OpenMedError): Another precision.
    """

    def __init__(self, encoder: Any, precision: str, compiled: bool = False) -> None:
        if precision not in DTYPES:
            raise OpenMedError(
                f"precision = {precision!r} is not possible for an encoder of type "
                f"'{encoder.config.model_type}': choose {', '.join(map(repr, DTYPES))}."
            )
        self.dtype = DTYPES[precision]
        shared = {id(p): _converted(p, self.dtype) for p in encoder.parameters()}
        self.encoder = copy.deepcopy(encoder, shared)
        for module in self.encoder.modules():
            # Not those of a subclass, which may compute something else.
            if type(module) is torch.nn.Linear:
                module.__class__ = _Linear
        self._run = torch.compile(self.encoder, dynamic=True) if compiled else self.encoder

    def rebuild(self, paths: Collection[str], weight: Callable[[str], torch.Tensor]) -> None:
        for path in paths:
            own = weight(path).detach().to(self.dtype)
            self.encoder.get_submodule(path).weight = _frozen(own)

    def weights(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.encoder.named_parameters(remove_duplicate=False))

    def use(self, weights: dict[str, torch.nn.Parameter]) -> None:
        for name, parameter in weights.items():
            path, _, attribute = name.rpartition(".")
            setattr(self.encoder.get_submodule(path), attribute, parameter)

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Without padding there is nothing to mask, and attention runs faster.
        padded = not bool(mask.all())
        hidden = self._run(input_ids=ids, attention_mask=mask if padded else None)[0]
        result: torch.Tensor = hidden[mask.bool()] if padded else hidden.flatten(0, 1)
        return result


class _Linear(torch.nn.Linear):
    """A linear layer without gradients; see ``product``."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = product(input, self.weight, self.bias)
        return result


def _converted(parameter: torch.nn.Parameter, dtype: torch.dtype) -> torch.nn.Parameter:
    return parameter if parameter.dtype == dtype else _frozen(parameter.detach().to(dtype))


def _frozen(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)
