"""The listing of a graph."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import fx

from irprune.cost import node_costs
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import Cost, Site, op_at
from irprune.text.listing import (
    AxisLine,
    CostNote,
    FixedLine,
    KernelsLine,
    Listing,
    Statement,
    TensorLine,
)
from irprune.text.values import argument_of, function_name

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

KINDS = {
    "placeholder": "input",
    "get_attr": "parameter",
    "call_module": "module",
    "call_function": "function",
    "call_method": "method",
    "output": "return",
}


def listing_of(
    graph: EquivariantGraph, *, costs: bool = False, groups: bool = False, tensors: bool = False
) -> Listing:
    """What the text of a graph says.

    Args:
        graph: any graph.
        costs: blocks, parameters and FLOPs beside every call.
        groups: the coupled groups axis by axis, with what is selected, and the fixed blocks.
        tensors: path, dtype and shape of every parameter and buffer of the graph.
    """
    found, plan = node_costs(graph) if costs else {}, graph.kernels
    return Listing(
        statements=tuple(statement_of(s, found.get(n)) for n, s in graph.sites.items()),
        axes=_axes(graph) if groups else (),
        fixed=_fixed(graph) if groups else (),
        tensors=_tensors(graph) if tensors else (),
        compiled=None if graph.compiled is None else graph.compiled.backend,
        kernels=None if plan is None else KernelsLine(str(plan).removeprefix("kernels ")),
    )


def statement_of(site: Site, cost: Cost | None = None) -> Statement:
    """The statement of one node."""
    node = site.node
    kind = KINDS[node.op]
    target = str(node.target)
    if node.op == "call_function":
        assert callable(node.target)
        target = function_name(node.target)
    op = ""
    if node.op.startswith("call"):
        known = op_at(site)
        op = "barrier" if known is None else known.name
    return Statement(
        name=node.name,
        kind=kind,
        type=None if node.op == "output" else site.out,
        op=op,
        target="" if node.op == "output" else target,
        args=tuple(argument_of(a) for a in node.args),
        kwargs=tuple((k, argument_of(v)) for k, v in node.kwargs.items()),
        cost=_note(site, cost) if cost is not None and op else None,
    )


def _note(site: Site, cost: Cost) -> CostNote:
    t = site.out if isinstance(site.out, IrrepsType) else None
    per = cost.space or (Space.ANY if t is None else t.space)
    return CostNote(0 if t is None else t.n_units, int(cost.params), float(cost.flops), per.value)


def _axes(graph: EquivariantGraph) -> tuple[AxisLine, ...]:
    space, lines = graph.blocks, []
    for axis in graph.axes():
        members = {space.locate(int(e))[0].node for e in space.members[axis.groups[0]]}
        kept = None
        if graph.keep is not None:
            kept = tuple(i for i, c in enumerate(axis.groups) if graph.keep[c])
        lines.append(
            AxisLine(
                axis.name, axis.kind, axis.ir, len(axis.groups), axis.node, axis.segment,
                tuple(sorted(members - {axis.node})), kept,
            )
        )  # fmt: skip
    return tuple(lines)


def _fixed(graph: EquivariantGraph) -> tuple[FixedLine, ...]:
    return tuple(FixedLine(n, reason) for reason, n in Counter(graph.blocks.fixed.values()).items())


def _tensors(graph: EquivariantGraph) -> tuple[TensorLine, ...]:
    """State of every module that is called, and what the graph reads itself, in graph order."""
    found: dict[str, torch.Tensor] = {}
    for node in graph.gm.graph.nodes:
        found.update(tensors_of(graph.gm, node))
    return tuple(
        TensorLine(path, str(t.dtype).removeprefix("torch."), tuple(t.shape))
        for path, t in found.items()
    )


def tensors_of(gm: fx.GraphModule, node: fx.Node) -> dict[str, torch.Tensor]:
    """The tensors that a node reads from the model, by path."""
    if node.op == "call_module":
        state = gm.get_submodule(str(node.target)).state_dict()
        return {f"{node.target}.{name}": t for name, t in state.items()}
    if node.op != "get_attr":
        return {}
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(gm.get_submodule(owner), name)
    return {str(node.target): value} if torch.is_tensor(value) else {}
