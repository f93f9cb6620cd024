"""Memory that was freed, given back to the system."""

import ctypes
import sys


def give_back_freed_memory() -> None:
    """Make the C library let go of what nobody uses, where it is glibc.

    glibc keeps what a thread has freed for that thread. Where each trial runs in a thread of its
    own, as on Ray, gigabytes would be kept of every one.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
