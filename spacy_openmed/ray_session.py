"""Ray, on this machine or on a cluster."""

import os
from typing import Any

from .errors import OpenMedError

# Sends what is used where to Ray's makers, unless it is off before Ray is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


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
