"""The cost model: parameters, and FLOPs per atom, of a graph under a mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irprune.irreps import BoolMask, IrrepsType, Space
from irprune.ops.base import UNKNOWN, Cost, op_at

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

DEFAULT_EDGES_PER_ATOM = 40.0
"""Neighbours per atom assumed where no data say better (a 5 Å sphere in a typical crystal)."""


@dataclass(frozen=True)
class Stats:
    """Size of a graph.

    ``params`` counts floating-point parameters of the ops (shared modules once);
    ``flops_per_atom`` are forward floating-point operations, 2 per multiply-add, with
    ``edges_per_atom`` neighbours; ``matmul_flops_per_atom`` is the part in matrix products.
    """

    params: int
    flops_per_atom: float
    matmul_flops_per_atom: float
    edges_per_atom: float
    blocks: int
    nodes: int


def node_costs(graph: EquivariantGraph, elements: BoolMask | None = None) -> dict[str, Cost]:
    """Cost of every node under an element mask (all kept by default)."""
    space = graph.blocks
    if elements is None:
        elements = np.ones(space.n, bool)
    seen: set[object] = set()
    costs: dict[str, Cost] = {}
    for name, site in graph.sites.items():
        op = op_at(site) if site.node.op.startswith("call") else None
        if op is None or site.out == UNKNOWN:
            params = sum(p.numel() for p in site.module.parameters()) if site.module else 0
            if site.node.op == "get_attr":
                params = _parameter_size(graph, str(site.node.target))
            cost = Cost(params=params)
        else:
            cost = op.cost(site, space.keep_at(site, elements))
        if site.node.op in ("call_module", "get_attr"):
            if site.node.target in seen:
                cost = replace(cost, params=0)
            seen.add(site.node.target)
        costs[name] = cost
    return costs


def _parameter_size(graph: EquivariantGraph, path: str) -> int:
    named = dict(graph.gm.named_parameters(remove_duplicate=False))
    return named[path].numel() if path in named else 0


def _rows_per_atom(cost: Cost, t: Any, edges: float) -> float:
    """How often a node's FLOPs are spent for each atom, by the space that they are counted in."""
    space = cost.space or (t.space if isinstance(t, IrrepsType) else None)
    return {Space.EDGE: edges, Space.PAIR: edges / 2}.get(space, 1.0)  # type: ignore[arg-type]


def flops_per_atom(cost: Cost, t: Any, edges: float) -> float:
    """FLOPs per atom of a node that gives a value of type ``t``, with ``edges`` neighbours."""
    return cost.flops * _rows_per_atom(cost, t, edges)


def graph_stats(
    graph: EquivariantGraph,
    elements: BoolMask | None = None,
    edges_per_atom: float | None = None,
) -> Stats:
    """The size of a graph under an element mask (all kept by default)."""
    edges = DEFAULT_EDGES_PER_ATOM if edges_per_atom is None else edges_per_atom
    params, flops, matmul = 0, 0.0, 0.0
    for name, cost in node_costs(graph, elements).items():
        rows = _rows_per_atom(cost, graph.sites[name].out, edges)
        params += cost.params
        flops += cost.flops * rows
        matmul += cost.matmul * rows
    if elements is None:
        elements = np.ones(graph.blocks.n, bool)
    live = graph.blocks
    groups = [c for a in graph.axes() if a.kind == "channel" for c in a.groups]
    kept = 0
    for c in groups:
        kept += bool(elements[live.members[c]].any())
    return Stats(params, flops, matmul, edges, kept, len(graph.sites))
