"""A token-classification model as ONNX, for runtimes without PyTorch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import OpenMedError
from ..inference import positions

# What one protobuf message may hold is 2 GiB; larger weights go into a file beside it.
_LARGEST = 2_000_000_000


def export_onnx(model: Any, path: Path) -> None:
    """Write an ONNX graph: int64[batch, length] input_ids and attention_mask to logits.

    Batch and length are free. Padding is what attention_mask marks with 0.

    model (PreTrainedModel): In eval mode, on the CPU.
    path (Path): The file; its folder is made. Weights of more than 2 GB go beside it.
    RAISES (OpenMedError): What the export needs is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise OpenMedError(
            f"The export to ONNX needs {error.name}: pip install 'spacy-openmed[onnx]'."
        ) from error
    # Sizes of 1 would be taken for fixed, and a mask of ones alone for none.
    ids = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=positions(model))}
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        torch.onnx.export(
            _Logits(model),
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(free, free),
            external_data=size > _LARGEST,
            dynamo=True,
            verbose=False,
        )


class _Logits(torch.nn.Module):
    """The model with a tensor in place of transformers' output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        return logits


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it could use for other models."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
