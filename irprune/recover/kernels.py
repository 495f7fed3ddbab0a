"""Training on compiled kernels: the same weights in a graph with other ops, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from irprune.passmanager import Pipeline, run_pipeline

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

KEEPING = "fuse-conv,share-pairs"
"""Exact passes that change no weight and no name of one."""


def on_kernels(graph: EquivariantGraph) -> EquivariantGraph:
    """The graph with fused convolutions; weights are copies under the names that they had."""
    if graph.keep is not None or "lowered" in graph.facts:
        return graph
    return run_pipeline(Pipeline.parse(KEEPING), graph)[0]


def take_back(graph: EquivariantGraph, trained: EquivariantGraph) -> None:
    """Copies the weights of what ``on_kernels`` gave into the graph that it came from, in place.

    A weight that only the graph has is one that no node reads, and stays.
    """
    have = dict(trained.gm.named_parameters())
    with torch.no_grad():
        for name, parameter in graph.gm.named_parameters():
            if name in have and have[name] is not parameter:
                parameter.copy_(have[name])
