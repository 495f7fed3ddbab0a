"""Whole models as CUDA graphs: recorded once, and replayed without the work of the host.

In a stage of its own, after all others: where a recording fails, torch may be of no more use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch

from benchmarks.gpu.device import Device, in_turn
from benchmarks.gpu.failures import OURS, attempt
from benchmarks.gpu.models import TOLERANCES, differences, numbers_of, opened
from benchmarks.gpu.ways import TRITON, Way, bound

R = TypeVar("R")
WARMUP = 3
"""Calls before the recording: what compiles or allocates at first does it then."""
CAPTURED = f"{OURS} captured"


def captured(call: Callable[[], R], place: torch.device) -> Callable[[], R]:
    """A replay of the call on the same operands. Every replay writes the same results again.

    Raises:
        RuntimeError: the call waits for the GPU, which a graph cannot hold.
    """
    side, here = torch.cuda.Stream(place), torch.cuda.current_stream(place)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            call()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        made = call()

    def replay() -> R:
        graph.replay()
        return made

    return replay


def measure(
    model: str, atoms: int, device: Device, rounds: int = 7, layout: str = "ir_mul"
) -> dict[str, Any]:
    """An optimized model by the Triton kernels, as it is and as a CUDA graph, in turn."""
    _, prepared, structure, _ = opened(model, atoms, layout)
    potential = bound(Way(TRITON, prepared, TRITON))[0].to(device=device.place)
    call = partial(potential.evaluate, potential.collate([structure]), stress=True)
    exact, failed = numbers_of(call), dict[str, str]()
    row: dict[str, Any] = {"atoms": len(structure), "failed": failed, "errors": None, "ok": True}
    replay = attempt(failed, CAPTURED, partial(captured, call, device.place))
    if replay is None:
        return row
    errors = differences(exact, numbers_of(replay))
    times = in_turn({TRITON: call, CAPTURED: replay}, device.timer, rounds, failed=failed)
    medians = {name: median(t) for name, t in times.items()}
    return {
        **row,
        "errors": errors,
        "ok": all(errors[k] <= TOLERANCES[k] for k in TOLERANCES),
        "seconds": times,
        "triton_over_captured": (
            medians[TRITON] / medians[CAPTURED] if len(medians) == 2 else None
        ),
    }
