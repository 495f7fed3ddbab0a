"""The ways in which one model is run: as it was loaded, optimized, and by which kernels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from irprune.backends import Decline, backends
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

if TYPE_CHECKING:
    from irprune.evaluation.potential import Potential
    from irprune.graph import EquivariantGraph

ORIGINAL, REFERENCE, CUEQ, TRITON = "original", "reference", "cuequivariance", "triton"
PREPARED = "share-pairs{{complete=true}},lay-out{{layout={layout}}}"
"""For kernels on a GPU: pairs of edges are not counted, and rows lie as the kernels read them."""


@dataclass(frozen=True, eq=False)
class Way:
    """One way to run a model."""

    name: str
    graph: EquivariantGraph
    backend: str
    """Of convolutions. Contractions go to the Triton kernels, but for those of the reference."""


def ways(
    graph: EquivariantGraph, prepared: EquivariantGraph, original: EquivariantGraph | None,
    device: torch.device,
) -> list[Way]:  # fmt: skip
    """What is timed of a model.

    Args:
        graph: optimized.
        prepared: the same as ``PREPARED`` leaves it.
        original: as it was loaded, of e3nn's own modules; None where it is not at hand.
        device: that runs it.
    """
    found = [Way(ORIGINAL, original, REFERENCE)] if original is not None else []
    found.append(Way(REFERENCE, graph, REFERENCE))
    if serves(CUEQ, prepared, device):
        found.append(Way(CUEQ, prepared, CUEQ))
    found.append(Way(TRITON, prepared, TRITON))
    return found


def serves(name: str, graph: EquivariantGraph, device: torch.device) -> bool:
    """Whether a backend serves every convolution of a graph, and there is one."""
    from irprune.kernelplan import kernel_nodes

    specs = [m.spec for _, m in kernel_nodes(graph.gm) if isinstance(m.spec, PathSpec)]
    backend = backends().get(name)
    dtype = next((p.dtype for p in graph.gm.parameters()), torch.float32)
    return bool(specs) and backend is not None and not any(
        isinstance(backend.supports(s, device, dtype), Decline) for s in specs
    )  # fmt: skip


def bound(way: Way) -> tuple[Potential, int]:
    """A potential whose convolutions and contractions are those of the way, and how many there are.

    Other nodes are the reference's, so that only one thing differs.
    """
    from irprune.evaluation.potential import Potential
    from irprune.kernelplan import kernel_nodes

    gm, served = copy.deepcopy(way.graph.gm), 0
    for _, module in kernel_nodes(gm):
        module.backend = REFERENCE
        if isinstance(module.spec, PathSpec):
            module.backend = way.backend
        elif isinstance(module.spec, PolySpec) and way.backend != REFERENCE:
            module.backend = TRITON
        served += isinstance(module.spec, PathSpec | PolySpec)
    assert way.graph.atomistic is not None
    return Potential(gm, way.graph.atomistic, way.graph.atomistic.any_head()), served
