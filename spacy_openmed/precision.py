"""Where, and in which number format, a machine computes."""

from pathlib import Path
from typing import NamedTuple

import torch

from .errors import OpenMedError

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
INFERENCE_PRECISIONS = (*PRECISIONS, "int8")


def default_device() -> str:
    """Where to compute, where nobody says: "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(name: str, device: str | None = None) -> str:
    """Turn "auto" into what the hardware does well.

    name (str): "auto", "bf16", "fp16" or "fp32".
    device (str | None): "cuda" or "cpu"; None means a GPU if there is one.
    RETURNS (str): "bf16", "fp16" or "fp32". "auto" is half precision on a GPU, bf16 on a
        processor with bf16 instructions, else fp32.
    RAISES (OpenMedError): Unknown name.
    """
    if name not in PRECISIONS:
        raise OpenMedError(f"precision = {name!r}: choose {', '.join(map(repr, PRECISIONS))}.")
    if name != "auto":
        return name
    if (device or default_device()) == "cuda":
        # GPUs that have no such instructions emulate them, slowly.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _cpu_has_bf16() else "fp32"


def resolve_unscaled(name: str, device: str) -> str:
    """As ``resolve_precision``, for training without loss scaling, which fp16 cannot do without.

    RAISES (OpenMedError): "fp16", or an unknown name.
    """
    found = resolve_precision(name, device)
    if name == "fp16":
        raise OpenMedError(
            "precision = 'fp16' needs loss scaling, which spaCy's training does not do for us: "
            "choose 'auto', 'bf16' or 'fp32', or train with 'spacy openmed train'."
        )
    return "fp32" if found == "fp16" else found


def resolve_inference(name: str, device: str) -> str:
    """As ``resolve_precision``, for inference, which can do with 8 bits.

    name (str): "auto", "bf16", "fp16", "fp32" or "int8", which "auto" never chooses.
    device (str): "cuda" or "cpu".
    RAISES (OpenMedError): Unknown name.
    """
    if name not in INFERENCE_PRECISIONS:
        names = ", ".join(map(repr, INFERENCE_PRECISIONS))
        raise OpenMedError(f"precision = {name!r}: choose {names}.")
    return resolve_precision(name, device) if name in PRECISIONS else name


class Arithmetic(NamedTuple):
    """How inference computes.

    precision (str): See ``resolve_inference``.
    compiled (bool): Whether torch.compile fuses what is between the matrix products.
    """

    precision: str = "auto"
    compiled: bool = False


def attention(precision: str) -> str | None:
    """Which attention of transformers to train with; None for its own choice.

    precision (str): As ``resolve_precision`` returns it.
    """
    # PyTorch's fused kernel for processors is several times slower than plain matrix products
    # going backward in bf16; forward, and in fp32, it is not.
    return "eager" if precision == "bf16" and not torch.cuda.is_available() else None


def _cpu_has_bf16() -> bool:
    """Whether bf16 matrix products are done by the processor rather than emulated."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
