"""Which layout each value of a graph gets, so that the fewest conversions are left.

Every node gets a label: the layout of the rows that it reads and gives. Kernels take the wanted one,
what is fixed keeps its own, and the others are free. A value is converted once, if any node that reads
it has another label. The fewest conversions are a minimum cut between the nodes of the two layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
from torch import fx

from irprune.irreps import IrrepsType, Layout
from irprune.ops.base import LayoutRole, Site, op_at

CONVERSION = "change-layout"
"""Name of the op that converts."""


def convertible(t: Any) -> bool:
    """Whether a value has flat rows that the layouts write differently."""
    return isinstance(t, IrrepsType) and t.is_flat and not t.orderless


@dataclass(frozen=True, eq=False)
class LayoutPlan:
    """The label of every node that reads or gives such rows, in graph order."""

    sites: Mapping[str, Site]
    wanted: Layout
    labels: Mapping[str, Layout]
    kernels: frozenset[str]
    """Nodes that are in the wanted layout because their kernels read it."""
    _made: dict[Any, Any] = field(default_factory=dict)

    def source(self, operand: fx.Node) -> fx.Node:
        """A value before the conversions that the graph has now."""
        return source(self.sites, operand)

    def type_of(self, name: str) -> IrrepsType:
        return self.sites[name].result

    def read(self, name: str) -> tuple[fx.Node, ...]:
        """Operands of a node whose components it reads and that have two layouts."""
        return tuple(read_by(self.sites[name]))

    def moves(self, name: str) -> bool:
        """Whether a node is in another layout now."""
        return current(self.sites[name]) is not self.labels[name]

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for a key, once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def borders(self) -> dict[str, list[str]]:
        """Value that is converted → the nodes that read it converted."""
        out: dict[str, list[str]] = {}
        for name, label in self.labels.items():
            for operand in self.read(name):
                value = self.source(operand).name
                if self.labels[value] is not label and name not in out.get(value, ()):
                    out.setdefault(value, []).append(name)
        return out

    @property
    def made(self) -> int:
        """Conversions if every kernel had its own: one for each operand and result of two layouts."""
        if self.wanted is Layout.MUL_IR:
            return 0
        given = sum(len({self.source(o) for o in self.read(n)}) for n in self.kernels)
        return given + sum(convertible(self.sites[n].out) for n in self.kernels)

    @property
    def is_done(self) -> bool:
        """Whether the graph is that already."""
        there = sum(is_conversion(s) for s in self.sites.values())
        return there == len(self.borders()) and not any(self.moves(n) for n in self.labels)

    def to_json(self) -> dict[str, Any]:
        found = self.borders()
        return {
            "layout": self.wanted.value,
            "kernels": len(self.kernels),
            "made": self.made,
            "cancelled": self.made - len(found),
            "left": len(found),
            "borders": found,
        }


def plan_layouts(
    sites: Mapping[str, Site], wanted: Layout, only: frozenset[str] | None = None
) -> LayoutPlan:
    """Labels for a typed graph.

    Args:
        sites: of the graph. The conversions in it are taken away first.
        wanted: the layout of kernels.
        only: the only nodes whose layout may change; None for all.
    """
    roles: dict[str, LayoutRole] = {}
    fixed: dict[str, Layout] = {}
    for name, site in sites.items():
        if is_conversion(site) or not (convertible(site.out) or read_by(site)):
            continue
        may = only is None or name in only
        roles[name] = _role(site) if may else LayoutRole.FIXED
        if roles[name] is LayoutRole.KERNEL:
            fixed[name] = wanted
        elif roles[name] is LayoutRole.FIXED:
            fixed[name] = current(site)
    chosen = _fewest(sites, roles, fixed)
    labels = {n: Layout.IR_MUL if n in chosen else Layout.MUL_IR for n in roles}
    kernels = frozenset(n for n, role in roles.items() if role is LayoutRole.KERNEL)
    return LayoutPlan(sites, wanted, labels, kernels)


def _fewest(
    sites: Mapping[str, Site], roles: Mapping[str, LayoutRole], fixed: Mapping[str, Layout]
) -> set[str]:
    """The nodes in ``ir_mul``: those that have to be, and the free ones with which the fewest values
    are converted; as few of these as possible.
    """
    start, end = ("layout", Layout.IR_MUL), ("layout", Layout.MUL_IR)
    cut: nx.DiGraph[Any] = nx.DiGraph()
    cut.add_nodes_from((start, end))
    for name in roles:
        if name in fixed:
            ends = (start, name) if fixed[name] is Layout.IR_MUL else (name, end)
            cut.add_edge(*ends)  # without a capacity: never cut
    for name in roles:
        for operand in read_by(sites[name]):
            value = source(sites, operand).name
            # one conversion of a value serves all that read it: cut where it is in ir_mul and some
            # of them are not, or the other way round
            cut.add_edge(value, ("from", value), capacity=1)
            cut.add_edge(("from", value), name)
            cut.add_edge(name, ("to", value))
            cut.add_edge(("to", value), value, capacity=1)
    _, (inside, _) = nx.minimum_cut(cut, start, end)
    return {n for n in roles if n in inside}


def is_conversion(site: Site) -> bool:
    """Whether a node converts from one layout to another."""
    op = op_at(site) if site.node.op == "call_module" else None
    return op is not None and op.name == CONVERSION


def source(sites: Mapping[str, Site], operand: fx.Node) -> fx.Node:
    """A value before the conversions that lead to an operand."""
    while is_conversion(sites[operand.name]):
        operand = sites[operand.name].operands[0]
    return operand


def read_by(site: Site) -> list[fx.Node]:
    """The operands whose components a node reads and that have two layouts."""
    op = op_at(site) if site.node.op.startswith("call") else None
    places = range(len(site.operands)) if op is None else op.takes_components(site)
    return [site.operands[i] for i in places if convertible(site.types[i])]


def current(site: Site) -> Layout:
    """The layout that a node reads or gives now."""
    places = [site.out, *(site.types[site.operands.index(o)] for o in read_by(site))]
    found = {t.layout for t in places if convertible(t)}
    return Layout.IR_MUL if Layout.IR_MUL in found else Layout.MUL_IR


def _role(site: Site) -> LayoutRole:
    op = op_at(site) if site.node.op.startswith("call") else None
    return LayoutRole.FIXED if op is None else op.layout_role(site)
