"""Batches side by side, each on few threads.

A matrix product that is spread over all cores waits for the slowest of them, time and again, and
while Python is busy on one core the others wait for that one. Batches of their own on threads of
their own wait for nothing: whichever core is free takes the next (measured in
``benchmarks/engine.py``).
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch

from ..windows import pack

Given = TypeVar("Given")
Made = TypeVar("Made")

# Smaller batches waste the time that it takes to begin each layer.
MIN_WORDPIECES = 512

# By torch's number of threads and the number of workers that they are divided among.
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_making = threading.Lock()


class Share(NamedTuple):
    """How batches are to be run.

    workers (int): Batches at a time.
    wordpieces (int): Of each of them, at most.
    """

    workers: int
    wordpieces: int


def share(most: int, total: int, longest: int) -> Share:
    """Divide what runs at a time among torch's threads, unless the parts were too small.

    most (int): Wordpieces that may run at a time.
    total (int): All that there are.
    longest (int): Of the longest window.
    """
    at_a_time = min(most, total)
    workers = max(1, min(torch.get_num_threads(), at_a_time // MIN_WORDPIECES))
    if workers == 1:
        return Share(1, most)
    each = most // workers
    if total <= most:
        # One batch for every worker, of whole windows: else a few windows would be left over,
        # which all but one of the workers would wait for.
        windows = math.ceil(total / workers / longest)
        each = min(each, windows * longest)
    return Share(workers, each)


def even(batches: Sequence[Sequence[int]], workers: int) -> list[list[int]]:
    """Divide the last batches, where they are too few for all workers.

    Each is cut into runs of its own: none has more padding than the batch had.

    batches (Sequence[Sequence[int]]): Indices of windows, similar ones together.
    workers (int): Batches at a time.
    RETURNS (list[list[int]]): The same indices in the same order; as many batches as workers, or
        a multiple, unless there are too few windows in the last ones.
    """
    left = len(batches) % workers
    found = [list(batch) for batch in batches[: len(batches) - left]]
    for number, batch in enumerate(batches[len(batches) - left :]):
        parts = min(len(batch), workers // left + (number < workers % left))
        ends = [len(batch) * part // parts for part in range(parts + 1)]
        found += [list(batch[start:end]) for start, end in pairwise(ends)]
    return found


def divide(lengths: Sequence[int], most: int) -> tuple[int, list[list[int]]]:
    """Batches of windows for torch's threads.

    lengths (Sequence[int]): Wordpieces of each window.
    most (int): Wordpieces that may run at a time, padding included.
    RETURNS (tuple): Workers, and indices of windows for each batch, as ``side_by_side`` takes them.
    """
    workers, wordpieces = share(most, sum(lengths), max(lengths, default=0))
    return workers, even(pack(lengths, wordpieces), workers)


def side_by_side(
    run: Callable[[Given], Made], batches: Sequence[Given], workers: int
) -> list[Made]:
    """Run batches on a CPU, several at a time.

    run (Callable): Computes one batch; with several workers it is called from several threads.
    batches (Sequence): Handed out in this order: the largest should come first.
    workers (int): Batches at a time; torch's threads are divided among them.
    RETURNS (list): In the order of the batches.
    """
    if workers == 1:
        return [run(batch) for batch in batches]
    return list(_pool(workers).map(run, batches))


def taking_turns(compiled: bool) -> AbstractContextManager[object]:
    """What a network is run in: torch.compile is not made for several threads at once."""
    return threading.Lock() if compiled else nullcontext()


def _pool(workers: int) -> ThreadPoolExecutor:
    threads = torch.get_num_threads()
    with _making:
        if (threads, workers) not in _pools:
            _pools[threads, workers] = _new_pool(threads, workers)
        return _pools[threads, workers]


def _new_pool(threads: int, workers: int) -> ThreadPoolExecutor:
    # The first workers have one more, where they cannot all have the same.
    shares = [threads // workers + (index < threads % workers) for index in range(workers)]
    ready = threading.Barrier(workers + 1)

    def begin() -> None:
        # Asked for first: a thread takes over the general setting when it first looks at it. What
        # is set then is the thread's own, but also that of threads to come …
        torch.get_num_threads()
        torch.set_num_threads(shares.pop())
        ready.wait()

    pool = ThreadPoolExecutor(workers, "openmed", begin)
    try:
        for _ in range(workers):
            pool.submit(int)
        ready.wait()
    except BaseException:
        # A thread could not be started: the others would wait for it for ever.
        ready.abort()
        raise
    finally:
        # … which are to have what those before them had.
        torch.set_num_threads(threads)
    return pool


def _after_fork() -> None:
    # The threads have stayed in the parent, and so has whoever held the lock.
    global _making
    _making = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
