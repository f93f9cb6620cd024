"""What the C library does with freed memory, seen in the page faults of a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is set"
)
# Prints whether the settings were made, and the page faults of tensors that come and go.
SCRIPT = """
import resource, sys
import torch
from spacy_openmed.training.malloc import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.ones(2**24)
before = faults()
for number in range(1, 6):
    # Aligned memory of the very same size does not fit where the first was.
    torch.ones(2**24 - number * 2**16)
print(kept, faults() - before)
"""


def run(how: str, **environment: str) -> tuple[str, int]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_tensors_reuse_the_pages_of_those_before() -> None:
    _, plain = run("leave")
    kept, faults = run("keep")
    assert kept == "True"
    assert faults < plain / 5


def test_settings_of_the_user_stay() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
