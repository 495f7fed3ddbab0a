"""Slices of concatenations that are whole operands: the operand itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from irprune.irreps import IrrepsType
from irprune.ops.base import Site, op_of_node
from irprune.rewriting import Rewriting

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


def forwarded(graph: EquivariantGraph) -> EquivariantGraph:
    """The graph without columns that are taken out of a concatenation as they were put in.

    The given graph where there are none.
    """
    edit = Rewriting(graph)
    for site in graph.sites.values():
        operand = _whole_operand(graph, site)
        if operand is not None:
            edit.replace(edit.node(site.node), edit.node(operand))
    return edit.done()


def _whole_operand(graph: EquivariantGraph, site: Site) -> fx.Node | None:
    from irprune.ops.indexing import GetItem

    op = op_of_node(site.node, site.module) if site.node.op == "call_function" else None
    if not isinstance(op, GetItem) or not isinstance(site.types[0], IrrepsType):
        return None
    source = graph.sites[site.operands[0].name]
    joined = op_of_node(source.node, source.module) if source.node.op == "call_function" else None
    columns = op.columns(site)
    if joined is None or joined.name != "concat" or columns is None:
        return None
    at = 0
    for i, operand in enumerate(source.operands):
        end = at + source.irreps(i).n_units
        if (columns.start, columns.stop) == (at, end):
            return operand
        at = end
    return None
