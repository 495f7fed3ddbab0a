"""A call as a CUDA graph: recorded once, and replayed without the work of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

R = TypeVar("R")
WARMUP = 3
"""Calls before the recording: what compiles or allocates at first does it then."""


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
    with torch.cuda.graph(graph):
        made = call()

    def replay() -> R:
        graph.replay()
        return made

    return replay
