"""Freed memory, as the system sees it."""

import platform
import subprocess
import sys

import pytest

# Many tensors that are small enough to come from a thread's own heap.
SCRIPT = """
import threading
import psutil, torch
from spacy_openmed.training.malloc import give_back_freed_memory

def work():
    held = [torch.ones(2**12) for _ in range(20_000)]
    # What was freed lies between what is still held.
    kept.append(held[-1])

kept = []
process = psutil.Process()
before = process.memory_info().rss
for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
freed = process.memory_info().rss
give_back_freed_memory()
print(freed - before, process.memory_info().rss - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_what_threads_have_freed_goes_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    held, after = map(int, done.stdout.split())
    assert held > 2**28 and after < held / 5
