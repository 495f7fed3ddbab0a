"""The latency estimate of the cost model: the time of one call from FLOPs, bytes and two peaks.

A roofline (Williams, Waterman, Patterson, CACM 52, 65 (2009)): no node is faster than its arithmetic
at the peak of a matrix product, or than its operands, parameters and result at that of a copy. The
backward pass of a node costs its forward pass once for each operand that leads to the edge vectors.
What it leaves out is what kernels lose: the estimate is low, by a factor that differs from op to op.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from irprune.cost import node_costs
from irprune.irreps import BoolMask, IrrepsType, Space

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph
    from irprune.ops.base import Site


class Limits(Protocol):
    """What a machine can do."""

    def least(self, flops: float, size: float) -> float:
        """Seconds below which a kernel of these FLOPs and bytes cannot come."""


def estimate(
    graph: EquivariantGraph,
    atoms: int,
    edges: int,
    peaks: Limits,
    elements: BoolMask | None = None,
) -> float:
    """Seconds of one call for energy, forces and stress, neighbour list left out.

    Args:
        graph: an interatomic potential.
        atoms: of the structure.
        edges: of its neighbour list, both directions.
        peaks: of the machine, such as ``irprune.profile.peaks.measure`` gives.
        elements: an element mask: the time of the graph that is left when it is sliced; None takes
            the graph as it is.
    """
    costs = node_costs(graph, elements)
    item = next((p.dtype.itemsize for p in graph.gm.parameters() if p.is_floating_point()), 4)
    moving, total = _moving(graph), 0.0

    def rows(space: Space | None) -> float:
        return {Space.EDGE: float(edges), Space.PAIR: edges / 2, Space.NODE: float(atoms)}.get(
            space or Space.GRAPH, 1.0
        )

    def size(t: object, kept: BoolMask | None) -> float:
        if not isinstance(t, IrrepsType):
            return 0.0
        return rows(t.space) * (t.dim if kept is None else int(t.components(kept).sum()))

    for name, site in graph.sites.items():
        if not site.node.op.startswith("call"):
            continue
        cost = costs[name]
        space = cost.space or (site.out.space if isinstance(site.out, IrrepsType) else None)
        keep = None if elements is None else graph.blocks.keep_at(site, elements)
        read = [None] * len(site.types) if keep is None else keep.operands
        numbers = size(site.out, None if keep is None else keep.out) + cost.params
        numbers += sum(size(t, k) for t, k in zip(site.types, read, strict=True))
        passes = 1 + sum(o.name in moving for o in site.operands)
        total += passes * peaks.least(cost.flops * rows(space), item * numbers)
    return total


def _moving(graph: EquivariantGraph) -> set[str]:
    """Nodes whose values change with the edge vectors, smoothly: what gradients go through."""
    found: set[str] = set()
    for name, site in graph.sites.items():
        first = site.node.op == "placeholder" and isinstance(site.out, IrrepsType)
        smooth = isinstance(site.out, (IrrepsType, tuple)) and not _is_indices(site)
        if first or (smooth and any(o.name in found for o in site.operands)):
            found.add(name)
    return found


def _is_indices(site: Site) -> bool:
    return isinstance(site.out, tuple) and not any(isinstance(t, IrrepsType) for t in site.out)
