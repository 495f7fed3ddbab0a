"""Checks and times kernels on the layers of real models, and whole models, on one GPU.

    python -m benchmarks.gpu.run -o out/gpu

Correctness first: every layer, full and pruned, in every variant, against the reference in float64 on
the same device (``correctness.json``). Then every backend in turn (``kernels.json``), whole models
(``models.json``), and these as CUDA graphs (``captured.json``). What the time does not suffice for is
listed as not reached, and what raised has its error in the row (``failed``). The exit code is 1 if a
kernel is wrong, and nothing is timed then, or if something raised; 2 without a GPU, or without a
package that is needed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks.gpu.needs import missing

if TYPE_CHECKING:
    from benchmarks.gpu.device import Device


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[], Device] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Runs the stages, if all packages are there.

    Args:
        arguments: of the command line.
        find: gives the GPU; the first one by default.
        clock: seconds.
    """
    # what is served without tuning is raced, and compiled ahead: it is not surveyed one by one
    os.environ["IRPRUNE_SURVEY"] = "0"
    complaint = missing()
    if complaint is not None:
        sys.stderr.write(f"{complaint}\n")
        return 2
    from benchmarks.gpu.command import run

    return run(arguments, find, clock, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
