"""Ray, on this machine or on a cluster."""

import math
import os
from typing import Any

from .errors import OpenMedError

# Sends what is used where to Ray's makers, unless it is off before Ray is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Ray counts in ten-thousandths.
_STEPS = 10_000


def gpu_share(workers: int, gpus: float) -> float:
    """What to ask of Ray for each worker, so that all of them find a place at a time.

    workers (int): Processes at a time.
    gpus (float): Those there are, as Ray counts them.
    RETURNS (float): A GPU, or where there are fewer than workers a part of one: a part has to be
        on one GPU, so as many as are needed get the same. 0 without a GPU.
    """
    whole = int(gpus)
    if whole == 0:
        return 0.0
    # Rounded down, as all that share a GPU must not need more than it is.
    return _STEPS // math.ceil(workers / whole) / _STEPS


def connect(ray: Any, address: str, cpus: int) -> None:
    """Begin a session.

    ray (module): Ray, which is imported by who asks: it is not always installed.
    address (str): Of a cluster; "" begins one on this machine.
    cpus (int): Processors to give to one that is begun.
    RAISES (OpenMedError): Nobody answers, or Ray cannot begin.
    """
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OpenMedError(
            f"Ray cannot be reached at '{address or 'this machine'}': {error}"
        ) from error
