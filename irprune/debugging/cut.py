"""Cutting a graph: some of its calls, with what they read from outside as inputs."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from irprune.errors import LegalityError
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.ops.base import Other

INPUTS = frozenset({"index", "edge_index"})
"""Kinds of values without irreps that a graph may take in."""


def calls_of(graph: EquivariantGraph) -> tuple[str, ...]:
    """The names of all calls, in order."""
    return tuple(n for n, s in graph.sites.items() if s.node.op.startswith("call"))


def cut(graph: EquivariantGraph, keep: Collection[str]) -> EquivariantGraph:
    """The graph of some calls: it returns the last of them that has irreps, and what leads there.

    A value that they read and that another call makes becomes an input of its type. Where no input
    can have that type (a shape, a constant, lists of edges), the call is kept too. Weights stay what
    they are. What is not the whole graph runs on atoms no more: it is a plain network.

    Raises:
        LegalityError: no call with irreps is kept.
        IrrepsTypeError: the part does not type.
    """
    last = next(
        (
            s.node
            for s in reversed(graph.sites.values())
            if s.node.name in keep and isinstance(s.out, IrrepsType)
        ),
        None,
    )
    if last is None:
        raise LegalityError("none of these calls gives a value with irreps")
    calls, inputs = _needed(graph, last, frozenset(keep))
    if calls.issuperset(calls_of(graph)) and graph.sites["output"].operands == (last,):
        return graph
    made = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    types = {}
    for node in graph.gm.graph.nodes:
        if node.name in inputs:
            env[node] = made.placeholder(node.name)
            types[env[node].name] = graph.sites[node.name].out
    for node in graph.gm.graph.nodes:
        if node.name in calls:
            env[node] = made.node_copy(node, env.__getitem__)
    made.output(env[last])
    gm = fx.GraphModule(graph.gm, made, "Graph")
    labels = {k: v for k, v in graph.labels.items() if v in calls}
    return EquivariantGraph.build(
        gm, types, labels=labels, edges_per_atom=graph.edges_per_atom,
        facts=graph.facts & {"irreps", "lowered"},
    )  # fmt: skip


def _needed(
    graph: EquivariantGraph, last: fx.Node, keep: frozenset[str]
) -> tuple[set[str], set[str]]:
    """(calls and parameters to copy, values to take in) for the value of one call."""
    copied: set[str] = set()
    taken: set[str] = set()
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if node.name in copied or node.name in taken:
            continue
        t = graph.sites[node.name].out
        inputtable = isinstance(t, IrrepsType) or (isinstance(t, Other) and t.kind in INPUTS)
        outside = node.op.startswith("call") and node.name not in keep
        if node.op == "placeholder" or (outside and inputtable):
            taken.add(node.name)
            continue
        copied.add(node.name)
        waiting.extend(node.all_input_nodes)
    return copied, taken
