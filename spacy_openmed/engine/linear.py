"""Linear layers in the number formats of inference."""

from collections.abc import Callable

import torch

from ..errors import OpenMedError

# float[rows, columns in] to float[rows, columns out]
Linear = Callable[[torch.Tensor], torch.Tensor]

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


def linear(weight: torch.Tensor, bias: torch.Tensor, precision: str) -> Linear:
    """A linear layer; in fp32 with the tensors that it is given.

    weight (float32[out, in]), bias (float32[out])
    """
    if precision == "int8":
        return _Int8(weight, bias)
    dtype = DTYPES[precision]
    own, own_bias = weight.detach().to(dtype), bias.detach().to(dtype)
    return lambda rows: torch.nn.functional.linear(rows, own, own_bias)


class _Int8:
    """8-bit weights, one scale an output, and 8-bit activations, one scale a row.

    Scales of activations are found as they come (dynamic quantisation): nothing has to be
    calibrated, and a row never depends on the batch it is in.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        quantised = torch.round(weight / self.scale[:, None]).to(torch.int8)
        self.transposed = quantised.t()
        self.bias = bias.detach()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        scale = (rows.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-12)
        quantised = torch.round(rows / scale).to(torch.int8)
        product = torch._int_mm(quantised, self.transposed)
        result: torch.Tensor = torch.addcmul(self.bias, product * scale, self.scale)
        return result
