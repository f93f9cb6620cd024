"""Linear layers in the number formats of inference."""

from typing import NamedTuple

import torch

from ..errors import OpenMedError

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Rows that an 8-bit layer takes at a time.
_PART = 512
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
    sums (float32[out] | None): Of the weights of each output, in 8 bits and scaled.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    scale: torch.Tensor | None = None
    sums: torch.Tensor | None = None


def linear(weight: torch.Tensor, bias: torch.Tensor, precision: str) -> Linear:
    """A linear layer; in fp32 with the tensors that it is given.

    weight (float32[out, in]), bias (float32[out])
    """
    if precision == "int8":
        scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        quantised = torch.round(weight / scale[:, None]).to(torch.int8)
        sums = quantised.sum(dim=1, dtype=torch.int32) * scale
        return Linear(quantised.t(), bias.detach(), scale, sums)
    dtype = DTYPES[precision]
    return Linear(weight.detach().to(dtype), bias.detach().to(dtype))


def apply(layer: Linear, rows: torch.Tensor, gelu: bool = False) -> torch.Tensor:
    """Run a layer.

    With 8-bit weights the rows are made 8-bit, too, each by a scale and a zero point of its own
    that are found as it comes (dynamic quantisation, Jacob et al., arXiv 1712.05877, section 2.1):
    nothing has to be calibrated, and a row never depends on the batch it is in.

    rows (float[rows, in])
    gelu (bool): Apply GELU (Hendrycks and Gimpel, arXiv 1606.08415) to the result.
    RETURNS (float[rows, out])
    """
    if layer.scale is None:
        found: torch.Tensor = product(rows, layer.weight, layer.bias, gelu)
        return found
    if torch.compiler.is_compiling():
        # Which fuses the steps, and would compile anew for every number of parts.
        return _quantised(layer, rows, gelu)
    # A part at a time, which stays in the processor's cache through the steps.
    parts = [_quantised(layer, part, gelu) for part in rows.split(_PART)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _quantised(layer: Linear, rows: torch.Tensor, gelu: bool) -> torch.Tensor:
    assert layer.scale is not None and layer.sums is not None
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    scale = ((high - low) / 255).clamp(min=1e-12)
    # The smallest of a row is -128, the largest 127: what GELU gives has hardly any below zero.
    zero = -128 - low / scale
    quantised = torch.addcmul(zero, rows, 1 / scale).round_().to(torch.int8)
    products = torch._int_mm(quantised, layer.weight)
    # What the zero point has added to every product is taken off again.
    result = torch.addcmul(layer.bias, zero * -scale, layer.sums)
    result.addcmul_(products * scale, layer.scale)
    return torch.nn.functional.gelu(result) if gelu else result


# torch.compile takes this product only with weights that never change.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool = False
) -> torch.Tensor:
    """rows · weightᵀ + bias, without gradients.

    PyTorch multiplies fp32 matrices with MKL, which on processors of other makers than its own
    does not use their widest instructions; oneDNN, which comes with PyTorch, does (measured in
    ``benchmarks/engine.py``). It also applies GELU to what it has at hand anyway.

    rows (float[…, in]), weight (float[out, in]), bias (float[out] | None)
    gelu (bool): Apply GELU to the result.
    RETURNS (float[…, out])
    """
    if _onednn(rows):
        name, algorithm = ("gelu", "none") if gelu else ("none", "")
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, weight, bias, name, [], algorithm
        )
        return result
    result = torch.nn.functional.linear(rows, weight, bias)
    return torch.nn.functional.gelu(result) if gelu else result


def _onednn(rows: torch.Tensor) -> bool:
    if rows.device.type != "cpu" or not _HAS_ONEDNN or not torch._C._get_mkldnn_enabled():
        return False
    if rows.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return rows.dtype == torch.float32
