"""Linear layers in the number formats of inference."""

from typing import NamedTuple

import torch

from ..errors import OpenMedError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """What everything but the products of an int8 layer is computed in.

    RAISES (OpenMedError): int8 on a GPU.
    """
    if precision != "int8":
        return DTYPES[precision]
    if device.type != "cpu":
        raise OpenMedError("precision = 'int8' is for CPUs: on a GPU choose 'bf16' or 'fp16'.")
    return torch.float32


class Linear(NamedTuple):
    """The weights of a linear layer.

    weight (float[out, in] | int8[in, out]), bias (float[out])
    scale (float32[out] | None): Of 8-bit weights, one an output.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    scale: torch.Tensor | None = None


def linear(weight: torch.Tensor, bias: torch.Tensor, precision: str) -> Linear:
    """A linear layer; in fp32 with the tensors that it is given.

    weight (float32[out, in]), bias (float32[out])
    """
    if precision == "int8":
        scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        quantised = torch.round(weight / scale[:, None]).to(torch.int8)
        return Linear(quantised.t(), bias.detach(), scale)
    dtype = DTYPES[precision]
    return Linear(weight.detach().to(dtype), bias.detach().to(dtype))


def apply(layer: Linear, rows: torch.Tensor) -> torch.Tensor:
    """Run a layer.

    With 8-bit weights the rows are made 8-bit, too, each by a scale of its own that is found as
    it comes (dynamic quantisation): nothing has to be calibrated, and a row never depends on the
    batch it is in.

    rows (float[rows, in])
    RETURNS (float[rows, out])
    """
    if layer.scale is None:
        return torch.nn.functional.linear(rows, layer.weight, layer.bias)
    scale = (rows.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-12)
    quantised = torch.round(rows / scale).to(torch.int8)
    product = torch._int_mm(quantised, layer.weight)
    return torch.addcmul(layer.bias, product * scale, layer.scale)
