"""Where a score computes: a graph on another device."""

from __future__ import annotations

import torch

from irprune.errors import UsageError
from irprune.graph import EquivariantGraph


def device_named(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: torch does not know it, it holds no numbers, or it is not there.
    """
    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except Exception as error:  # torch raises many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"score: device {name!r} cannot be used: {reason}; give cpu, cuda or cuda:1"
        ) from None
    if device.type == "meta":
        raise UsageError(
            "score: device 'meta' cannot be used: its tensors hold no numbers; give cpu, cuda or"
            " cuda:1"
        )
    return device


def placed(graph: EquivariantGraph, device: torch.device) -> EquivariantGraph:
    """The graph with a copy of its module on a device; the graph itself if it is there already.

    Classes of blocks are numbered alike in both.
    """
    here = next((p.device for p in graph.gm.parameters()), device)
    return graph if here == device else graph.replace(gm=graph.module().to(device))
