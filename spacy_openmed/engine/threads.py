"""Batches side by side, each on one thread.

A matrix product that is spread over all cores waits for the slowest of them, time and again, and
while Python is busy on one core the others wait for that one. Batches of their own on threads of
their own wait for nothing: whichever core is free takes the next (measured in
``benchmarks/engine.py``).
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")

# Smaller batches waste the time that it takes to begin each layer.
MIN_WORDPIECES = 1024

_pools: dict[int, ThreadPoolExecutor] = {}
_making = threading.Lock()


def side_by_side(run: Callable[[Given], Made], batches: Sequence[Given]) -> list[Made]:
    """Run batches on as many threads as torch would give to each of them.

    run (Callable): Computes one batch on a CPU; it is called from several threads at once.
    batches (Sequence): Handed out in this order: the largest should come first.
    RETURNS (list): In the order of the batches.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(batches) == 1:
        return [run(batch) for batch in batches]
    return list(_pool(threads).map(run, batches))


def share(most: int, total: int) -> int:
    """Wordpieces of each batch, so that every thread has one.

    most (int): Wordpieces that are to run at a time; more only where there are many threads.
    total (int): All that there are.
    RETURNS (int): Never more than ``most``.
    """
    threads = torch.get_num_threads()
    return min(most, max(min(most, total) // threads, MIN_WORDPIECES))


def _pool(threads: int) -> ThreadPoolExecutor:
    with _making:
        if threads not in _pools:
            ready = threading.Barrier(threads + 1)

            def one_thread() -> None:
                # Asked for first: a thread takes over the general setting when it first looks at
                # it. What is set is the thread's own, but also that of threads to come …
                torch.get_num_threads()
                torch.set_num_threads(1)
                ready.wait()

            pool = ThreadPoolExecutor(threads, "openmed", one_thread)
            for _ in range(threads):
                pool.submit(int)
            ready.wait()
            # … which are to have what those before them had.
            torch.set_num_threads(threads)
            _pools[threads] = pool
        return _pools[threads]


def _after_fork() -> None:
    # The threads have stayed in the parent, and so has whoever held the lock.
    global _making
    _making = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
