"""share-pairs: what depends on a distance alone is computed once for an edge and its reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx

    from irprune.graph import EquivariantGraph
    from irprune.rewriting import Rewriting

SYMMETRIC = frozenset({"mace-radial-embedding", "pair-item"})
"""Ops on edges that treat both ends alike: exchanging them gives the same numbers."""


@dataclass(frozen=True)
class SharePairs(Pass):
    """Computes the weights of fused convolutions for pairs of edges instead of edges.

    Every edge of a neighbour list has its reverse, at the same distance. Energies, forces and stress
    stay what they are; the gradient by a single edge vector moves to the edge that stands for the
    pair.

    Pairs that a graph has already are only said to be complete, or not.
    """

    complete: bool = False
    """Every edge has its reverse: pairs are not counted, and a CUDA graph can hold the call."""

    name: ClassVar[str] = "share-pairs"
    summary: ClassVar[str] = "radial networks once for an edge and its reverse"
    trait: ClassVar[str] = "exact"
    requires: ClassVar[tuple[str, ...]] = ("lowered",)
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with shared weights; ``context.results["share-pairs"]`` says what stayed."""
        from irprune.functional import edge_lists, edge_pairs, edges_of_pairs
        from irprune.layers.convolution import Convolution
        from irprune.rewriting import Rewriting

        edit, stayed = Rewriting(graph, context), {}
        copies: dict[tuple[fx.Node, fx.Node], dict[fx.Node, fx.Node]] = {}
        for name, site in graph.sites.items():
            if not isinstance(site.module, Convolution):
                continue
            lists = edit.node(site.operands[3])
            weights, node = edit.node(site.operands[2]), edit.node(site.node)
            found = _radial(graph, edit, weights)
            if len(lists.args) != 3:
                continue
            if isinstance(found, str):
                stayed[name] = found
                continue
            if not edit.may(name):
                continue
            slice_, vectors, index = found
            if (lists, vectors) not in copies:
                sender, receiver, like = lists.args
                first = min((n for n in slice_), key=list(edit.gm.graph.nodes).index)
                where = _later(edit, first, (sender, receiver, vectors))
                pair = edit.call(where, edge_pairs, sender, receiver, vectors)
                _complete(pair, self.complete)
                stand, number = (edit.call(where, _item(), pair, i) for i in (0, 1))
                own: dict[fx.Node, fx.Node] = {vectors: edit.call(where, _item(), vectors, stand)}
                if index is not None:
                    own[index] = edit.call(where, edges_of_pairs, index, stand)
                after = _later(edit, lists, (number,))
                own[lists] = edit.call(after, edge_lists, sender, receiver, like, number)
                copies[lists, vectors] = own
            own = copies[lists, vectors]
            if index is not None and index not in own:
                anchor = own[vectors]
                with edit.gm.graph.inserting_after(anchor):
                    own[index] = edit.gm.graph.call_function(
                        edges_of_pairs, (index, anchor.args[1])
                    )
            for old in list(edit.gm.graph.nodes):
                if old in slice_ and old not in own:
                    with edit.gm.graph.inserting_before(_later(edit, old, own.values())):
                        own[old] = edit.gm.graph.node_copy(old, lambda n: own.get(n, n))  # noqa: B023
            node.args = (node.args[0], node.args[1], own[weights], own[lists])
            edit.changed = True
        for name, site in graph.sites.items():
            node = edit.node(site.node)
            known = node.target is edge_pairs and bool(node.kwargs.get("complete"))
            if node.target is edge_pairs and known != self.complete and edit.may(name):
                _complete(node, self.complete)
                edit.changed = True
        context.results[self.name] = stayed
        return edit.done()


def _complete(pair: fx.Node, complete: bool) -> None:
    """Notes on a node of pairs that they are complete."""
    pair.kwargs = {"complete": True} if complete else {}


def _item() -> Any:
    import operator

    return operator.getitem


def _later(edit: Rewriting, node: fx.Node, others: Any) -> fx.Node:
    """The node, or the one after the last of the others where that comes later."""
    order = {n: i for i, n in enumerate(edit.gm.graph.nodes)}
    last = max(others, key=order.__getitem__)
    return node if order[node] > order[last] else last.next


def _radial(
    graph: EquivariantGraph, edit: Rewriting, weights: fx.Node
) -> tuple[set[fx.Node], fx.Node, fx.Node | None] | str:
    """The nodes on edges that make the weights, the edge vectors and the edge index behind them.

    A text says why the weights are not the same for an edge and its reverse.
    """
    from irprune.irreps import IrrepsType, Space
    from irprune.ops.base import Other, op_of_node

    slice_: set[fx.Node] = set()
    vectors: fx.Node | None = None
    index: fx.Node | None = None
    todo = [weights]
    while todo:
        node = todo.pop()
        site = graph.sites.get(node.name)
        if node in slice_ or site is None:
            continue
        t = site.out
        if isinstance(t, Other) and t.kind == "edge_index":
            index = node
            continue
        on_edges = (isinstance(t, IrrepsType) and t.space is Space.EDGE) or isinstance(t, tuple)
        if isinstance(t, Other) and t.kind == "mask":
            on_edges = True
        if not on_edges:
            if isinstance(t, IrrepsType) and t.space is Space.NODE:
                continue  # read by an op of SYMMETRIC, at both ends of an edge alike
            if node.op == "get_attr":
                continue  # the same for every edge
            return f"{node.name} ({t}) may tell the ends of an edge apart"
        op = op_of_node(site.node, site.module)
        if op is not None and op.name == "norm" and node.all_input_nodes[0].op == "placeholder":
            source = node.all_input_nodes[0]
            shape = graph.sites[source.name].out
            if vectors not in (None, source) or not isinstance(shape, IrrepsType) or shape.dim != 3:
                return f"{node.name} is not the length of the one edge vector"
            slice_.add(node)
            vectors = source
            continue
        if op is None or not (
            op.row_wise or op.name in SYMMETRIC or op.name in ("where", "compare")
        ):
            return f"{node.name} is not known to be the same for an edge and its reverse"
        slice_.add(node)
        todo += node.all_input_nodes
    if vectors is None:
        return "they do not depend on a distance"
    return slice_, vectors, index
