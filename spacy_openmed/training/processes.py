"""Several processes that train together, started by ``torchrun``; or one alone."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import OpenMedError

if TYPE_CHECKING:
    from accelerate import PartialState

# Seconds within which torchrun ends the processes whose main one has failed.
_GRACE = 10.0


def process_group() -> "PartialState":
    """The processes, which can talk to each other from now on.

    On GPUs each has one to itself and they talk by NCCL; on CPUs, by gloo.

    RETURNS (PartialState): How many they are, and which one this is.
    RAISES (OpenMedError): A machine has fewer GPUs than processes.
    """
    import torch
    from accelerate import PartialState

    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE") or 1), torch.cuda.device_count()
    if torch.cuda.is_available() and here > gpus:
        raise OpenMedError(
            f"There are {here} processes, but {gpus} GPU(s) on this machine, and each needs its "
            f"own. Start torchrun with --nproc-per-node {gpus}."
        )
    if not torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        # accelerate would number CPUs like GPUs, and torch loads no checkpoint to a "cpu:0".
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    return PartialState(cpu=not torch.cuda.is_available())


def is_main() -> bool:
    """Whether this process is the one that speaks and writes, known before they can talk."""
    return int(os.environ.get("RANK") or 0) == 0


def threads(workers: int) -> int:
    """Of torch, in each of so many processes."""
    import torch

    return max(1, torch.get_num_threads() // workers)


def part() -> None:
    """End the talk between the processes, at the end of a command that went well.

    gloo's threads keep the last results they passed on. One that lets go of them while Python is
    shut down waits for an interpreter that is gone, and the process aborts after all work is done.
    After an error nothing is done: to part is to wait for the others, who may be gone.
    """
    if "torch.distributed" not in sys.modules:
        return
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # A model shared by the processes has a hold on the group, and goes in cycles.
        gc.collect()
        torch.distributed.destroy_process_group()


@contextmanager
def one_voice() -> Iterator[None]:
    """Of processes that all refuse the same, let the main one alone say so.

    What only another one meets must be said, too: it is, if ``torchrun`` has not ended this
    process after a while, as it does when the main one has failed.
    """
    try:
        yield
    except OpenMedError:
        if not is_main():
            time.sleep(_GRACE)
        raise
