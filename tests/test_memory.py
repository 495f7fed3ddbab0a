"""keep_memory: large tensors are not mapped anew at every call."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, torch, irprune
kept = irprune.keep_memory() if {keep} else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


def run(keep):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(keep=keep)], capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_pages_are_kept():
    without, kept = run(False), run(True)
    assert kept[0] == "True"
    assert kept[1] < without[1] / 20
