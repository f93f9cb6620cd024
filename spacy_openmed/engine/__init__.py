"""The arithmetic of inference: an encoder's hidden states from batches of wordpieces.

Two engines compute the same: one for BERT's architecture, which skips padding altogether, and
one that runs any other encoder as transformers has it. Both keep their weights in the format
they compute in; the backbone's own stay as they are, in fp32, for adapters to be merged into.
"""

import os
import shutil
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import OpenMedError
from .bert import BertEngine, fits
from .module import ModuleEngine

# The fp32 weight that is in effect for the module at a path.
WeightOf = Callable[[str], torch.Tensor]


class Engine(Protocol):
    """Hidden states of an encoder in some number format."""

    def rebuild(self, paths: Collection[str], weight: WeightOf) -> None:
        """Take over other weights.

        paths (Collection[str]): Modules of the encoder whose weight has changed.
        weight (WeightOf): The weight of a module, changed or not.
        """

    def weights(self) -> Any:
        """What is in effect, for ``use`` to put it back later; ``rebuild`` leaves it as it is."""

    def use(self, weights: Any) -> None:
        """Put back what ``weights`` gave."""

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Run a batch.

        ids, mask (int64[batch, length]): Special tokens included, padding at the end.
        RETURNS (float[total, hidden]): One row for each wordpiece that is not padding, window
            after window.
        """


def build(encoder: Any, precision: str, compiled: bool = False) -> Engine:
    """The fastest engine for an encoder.

    encoder (PreTrainedModel): In fp32; it is not changed, and what can be shared with it is.
    precision (str): "fp32", "bf16", "fp16" or "int8".
    compiled (bool): By torch.compile, which takes its time at first.
    RAISES (OpenMedError): ``compiled``, and there is no C++ compiler.
    """
    if compiled and encoder.device.type == "cpu" and not has_compiler():
        raise OpenMedError(
            "compile = True needs a C++ compiler (g++ or clang++, or the one that CXX names), and "
            "none is installed. Leave it out: only speed is lost."
        )
    engine = BertEngine if fits(encoder) else ModuleEngine
    return engine(encoder, precision, compiled)


def has_compiler() -> bool:
    """Whether torch.compile finds what it needs to compile for a CPU."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))


def with_padding(rows: torch.Tensor, mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Put rows of wordpieces back where they were in their batch.

    rows (float32[total, columns]): In the order that an engine gives them.
    mask (int64[batch, length]): As the engine was given it.
    RETURNS (float32[batch, length, columns]): 0 for padding.
    """
    result = np.zeros((*mask.shape, rows.shape[1]), dtype=np.float32)
    result[mask.astype(bool)] = rows.cpu().numpy()
    return result
