"""Where a score computes: a graph on another device."""

from __future__ import annotations

import torch

from irprune.graph import EquivariantGraph


def placed(graph: EquivariantGraph, device: torch.device) -> EquivariantGraph:
    """The graph with a copy of its module on a device; the graph itself if it is there already.

    Classes of blocks are numbered alike in both.
    """
    here = next((p.device for p in graph.gm.parameters()), device)
    return graph if here == device else graph.replace(gm=graph.module().to(device))
