"""The folder of a pre-training run: what is in it, and how it is written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import pretraining
from ..errors import OpenMedError
from .begun import RUN
from .energy import ENERGY
from .masked_lm import BASE_HEAD
from .trainer import WRITE_ERRORS, is_write_error

ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
HEAD_CHECKPOINTS = "head-checkpoints"
SETTLE_CHECKPOINTS = "settle-checkpoints"
HEAD_RECORD = "base_mlm_head.json"


def is_finished(output: Path) -> bool:
    """Whether the run in a folder has written its adapter."""
    return record_file(output).is_file()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Say what to do when a file of a run cannot be written.

    RAISES (OpenMedError): The disk is full, or the folder read-only.
    """
    try:
        yield
    except WRITE_ERRORS as error:
        if not is_write_error(error):
            raise
        raise OpenMedError(
            f"{target} could not be written ({error}). Make room on the disk and go on with "
            f"--resume; the checkpoints are intact."
        ) from error


def record_file(output: Path) -> Path:
    """What a finished run has written last."""
    return output / ADAPTER / pretraining.RECORD


def tidy(output: Path) -> None:
    """Remove what a run that was killed left of files that it was writing."""
    for name in (RUN, ENERGY, BASE_HEAD, HEAD_RECORD, ADAPTER):
        for part in output.glob(f".{name}-*"):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()
