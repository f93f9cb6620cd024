"""The C library's memory, kept by the process instead of given back after every tensor."""

import ctypes
import os
import sys

# From glibc's malloc.h, with values that its int parameters can hold.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))


def keep_freed_memory() -> bool:
    """Let tensors reuse the pages of larger ones before them.

    glibc maps every large tensor anew and has the kernel fill its pages with zeros, thousands
    of them in every update on a CPU. The process then holds what it held at its peak.

    RETURNS (bool): Whether it is so now. Not with another C library, nor where the environment
        has settings of its own.
    """
    if sys.platform != "linux" or any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, value) for name, value in _SETTINGS)
