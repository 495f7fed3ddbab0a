"""Which values of a graph are functions of the length of an edge, and these as functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from irprune.errors import LegalityError
from irprune.irreps import IrrepsType, Layout, Space
from irprune.ops.base import Other, Site, op_of_node
from irprune.splines.series import Series

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

ALONG = frozenset({"pair-item", "where", "compare", "one-hot", "element-table"})
"""Ops beside the row-wise ones through which a value stays one of a length and two elements."""
BY_ENDS = frozenset({"mace-radial-embedding", "getitem"})
"""Ops that read the elements at the ends of an edge."""
NETS = frozenset({"dense-net", "fully-connected-net", "mace-radial-mlp"})
FAILS = (LegalityError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)
"""What torch and a Series raise where the one does not know the other."""


@dataclass(frozen=True)
class Radial:
    """A value of a graph that depends on the length of an edge, the elements there, or both."""

    length: fx.Node | None
    """Lengths of the edges or pairs that the value has rows for; None where it has none."""
    edges: fx.Node | None
    """The edge index behind it, where elements matter."""
    net: bool
    """Whether a network lies between the length and the value."""


@dataclass(frozen=True)
class ByElement:
    """A value of an atom that depends on its element."""


@dataclass(frozen=True)
class Ends:
    """The atoms at one end of edges, or at both: where values of atoms become values of edges."""

    edges: fx.Node


Known = Radial | ByElement | Ends | None
"""None: a constant."""


def radial_values(graph: EquivariantGraph) -> tuple[dict[str, Radial], dict[str, str]]:
    """All values of that kind by node, and for networks on edges that are none, why not."""
    known: dict[str, Known] = {}
    why: dict[str, str] = {}
    for name, site in graph.sites.items():
        found = _classify(site, known, why)
        if isinstance(found, str):
            why[name] = found
        else:
            known[name] = found
    nets = {n: _root(why, n) for n, site in graph.sites.items() if n in why and _is_net(site)}
    radial = {n: v for n, v in known.items() if isinstance(v, Radial) and v.length is not None}
    return radial, nets


def _is_net(site: Site) -> bool:
    """Whether a node is a network on edges; one behind a barrier, whose rows are not known, may be."""
    op = op_of_node(site.node, site.module) if site.node.op == "call_module" else None
    elsewhere = isinstance(site.out, IrrepsType) and site.out.space in (Space.NODE, Space.GRAPH)
    return op is not None and op.name in NETS and not elsewhere


def _root(why: dict[str, str], name: str) -> str:
    """The first reason in a chain of values that depend on each other."""
    while why[name] in why:
        name = why[name]
    return why[name]


def _classify(site: Site, known: dict[str, Known], why: dict[str, str]) -> Known | str:
    """What a node's value depends on; a text says why it is no function of a length.

    The text is the name of an operand where that is the reason. Only parameters are constants: a
    number that a graph makes, such as a count of atoms, is as good as an input.
    """
    node, t = site.node, site.out
    if node.op == "get_attr":
        return None
    if isinstance(t, Other) and t.kind == "unknown":
        return f"{node.name} has no type: it is a barrier, or lies behind one"
    if isinstance(t, Other) and t.kind == "edge_index":
        return Ends(node)
    if isinstance(t, Other) and t.kind == "index" and node.op == "placeholder":
        return ByElement() if node.name == "species" else f"{node.name} is an input"
    op = op_of_node(node, site.module) if node.op.startswith("call") else None
    if op is None:
        return f"{node.name} is {'an input' if node.op == 'placeholder' else 'a barrier'}"
    if op.name == "norm" and _is_edge_vector(site.operands[0]):
        return Radial(node, None, False)
    read = [site.operands[i] for i in op.reads(site)]
    if not (op.row_wise or op.name in ALONG | BY_ENDS):
        return f"{node.name} ({op.name}) is no function of one length"
    for operand in read:
        if operand.name in why:
            return operand.name
    values = [known[o.name] for o in read]
    if op.name == "getitem" and not _is_lookup(values):
        return f"{node.name} (getitem) is no function of one length"
    ends = [v for v in values if isinstance(v, Ends)]
    atoms = [v for v in values if isinstance(v, ByElement)]
    radial = [v for v in values if isinstance(v, Radial)]
    if ends and len(values) == 1:
        return ends[0]
    if ends and op.name in BY_ENDS and atoms:
        radial.append(Radial(None, ends[0].edges, False))
    elif ends or (atoms and radial):
        return f"{node.name} ({op.name}) is no function of one length"
    if not radial:
        return ByElement() if atoms else None
    lengths = {v.length for v in radial} - {None}
    edges = {v.edges for v in radial} - {None}
    if max(len(lengths), len(edges)) > 1:
        return f"{node.name} mixes values of different edges"
    net = op.name in NETS or any(v.net for v in radial)
    return Radial(next(iter(lengths), None), next(iter(edges), None), net)


def _is_lookup(values: Sequence[Known]) -> bool:
    """Whether an index leads from elements to values by element, or from atoms to ends of edges.

    A parameter may be indexed by elements, a value of atoms by the ends of edges, an edge index by a
    number; anything but an edge index may be cut.
    """
    base, *indices = values
    if not indices:
        return True
    if isinstance(base, ByElement):
        return all(isinstance(i, Ends) for i in indices)
    return base is None and not any(isinstance(i, Ends) for i in indices)


def _is_ends(t: Any) -> bool:
    return isinstance(t, Other) and t.kind == "edge_index"


def _is_edge_vector(node: fx.Node) -> bool:
    import operator

    if node.op == "call_function" and node.target is operator.getitem:
        node = node.args[0]  # type: ignore[assignment]
    return node.op == "placeholder" and node.name == "edge_vectors"


class Function:
    """A value of a graph as a function of a Series of lengths, for two elements."""

    def __init__(self, graph: EquivariantGraph, node: fx.Node, value: Radial) -> None:
        self.sites, self.node, self.value = graph.sites, node, value
        self.runner = fx.Interpreter(graph.module(torch.float64))

    def at(self, first: int, second: int) -> _AtElements:
        """The function of the length for elements at the two ends."""
        return _AtElements(self, (first, second))


@dataclass(frozen=True, eq=False)
class _AtElements:
    of: Function
    elements: tuple[int, int]

    def __call__(self, length: Series) -> Any:
        rows = length.shape[0]
        start = self.of.value.length
        assert start is not None
        site = self.of.sites[start.name]
        flat = site.result.layout is Layout.ROWS
        values: dict[str, Any] = {
            start.name: length.reshape(rows) if flat else length,
            "species": torch.tensor(self.elements),
        }
        ends = torch.stack([torch.zeros(rows), torch.ones(rows)]).long()
        return self._value(self.of.node, values, ends)

    def _value(self, node: fx.Node, values: dict[str, Any], ends: torch.Tensor) -> Any:
        if node.name in values:
            return values[node.name]
        site = self.of.sites[node.name]
        if _is_ends(site.out):
            return ends
        op = op_of_node(node, site.module) if node.op.startswith("call") else None
        read = {site.operands[i] for i in op.reads(site)} if op is not None else set()
        env = {o: self._value(o, values, ends) if o in read else None for o in node.all_input_nodes}
        self.of.runner.env = env
        try:
            with torch.no_grad():
                values[node.name] = self.of.runner.run_node(node)
        except FAILS as error:
            raise LegalityError(f"{site.where}: {error}") from None
        return values[node.name]


def frontier(graph: EquivariantGraph, values: dict[str, Radial]) -> Sequence[str]:
    """Values behind a network, with a column per function, that something reads which is none."""
    wide = {
        n: v
        for n, v in values.items()
        if isinstance(t := graph.sites[n].out, IrrepsType) and t.layout is Layout.MUL_IR
    }
    return [
        n
        for n, v in wide.items()
        if v.net and any(user.name not in wide for user in graph.sites[n].node.users)
    ]


class Ancestors(fx.Interpreter):
    """Runs nodes of a graph, and what leads to them only, on inputs."""

    def __init__(self, graph: EquivariantGraph, inputs: dict[str, torch.Tensor]) -> None:
        super().__init__(graph.module(torch.float64))
        self.inputs = inputs
        self.env = {}

    def value(self, node: fx.Node) -> Any:
        """The value of a node of the graph."""
        if node not in self.env:
            if node.op == "placeholder":
                self.env[node] = self.inputs[node.name]
            else:
                for operand in node.all_input_nodes:
                    self.value(operand)
                self.env[node] = self.run_node(node)
        return self.env[node]
