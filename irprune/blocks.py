"""Blocks, the relations between them, and coupled groups.

Every unit of every value, and every entry of every internal axis of an op, is an *element*. Ops
relate elements in two ways: *same* (kept or removed together) and *product* (an element exists
exactly when several others do, e.g. channel k of a tensor-product path exists when channel k of its
input and the path exist). The classes that *same* generates, leaving aside those that are products,
are the coupled groups: what pruning decides about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from irprune.errors import BarrierError
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import BEHIND, UNKNOWN, Keep, Other, Site, op_at, op_of_node

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """A run of elements: the units of a value, or one internal axis of a node."""

    node: str
    axis: str | None
    start: int
    size: int

    @property
    def ids(self) -> Ids:
        return np.arange(self.start, self.start + self.size)

    @property
    def name(self) -> str:
        return self.node if self.axis is None else f"{self.node}.{self.axis}"


@dataclass(frozen=True)
class Axis:
    """Groups that belong to one segment of one value (or one internal axis), in order.

    ``kind``: ``channel`` (copies of one irrep of node features or messages), ``edge`` (orders of
    the edge attributes), ``order`` (whole orders of a message), ``path`` (tensor-product paths),
    ``radial`` (hidden neurons), ``scalar`` (edge scalars).
    """

    name: str
    node: str
    kind: str
    ir: str
    groups: tuple[int, ...]
    segment: int = 0

    def __str__(self) -> str:
        return f"{self.name:<48} {self.kind:<8} {len(self.groups)}x{self.ir}"


class Coupler:
    """What an OpDef's ``couple`` writes relations into, for one node."""

    def __init__(self, space: BlockSpace, site: Site) -> None:
        self._space = space
        self.site = site

    def operand(self, i: int) -> Ids:
        """Elements of the units of operand ``i`` (empty where it carries no irreps)."""
        return self._space.ids_of(self.site.operands[i].name)

    @property
    def out(self) -> Ids:
        return self._space.ids_of(self.site.node.name)

    def axis(self, name: str) -> Ids:
        return self._space.ids_of(self.site.node.name, name)

    def channels(self, i: int | None = None) -> Ids:
        """The channel axis of operand ``i`` (of the result if None), layout mul_x_dim."""
        return self._space.ids_of(self._name(i), "channel")

    def orders(self, i: int | None = None) -> Ids:
        return self._space.ids_of(self._name(i), "order")

    def tie(self, node: str, b: Ids) -> None:
        """The units of a value that is no operand go with ``b``, element by element."""
        self._space.add_same(self._space.ids_of(node), b)

    def _name(self, i: int | None) -> str:
        return self.site.node.name if i is None else self.site.operands[i].name

    def same(self, a: Ids, b: Ids) -> None:
        """Elementwise: kept together or removed together."""
        self._space.add_same(a, b)
        out = set(self.out.tolist())
        for x, y in ((a, b), (b, a)):
            passing = np.fromiter((e in out for e in y.tolist()), bool, len(y))
            self._space.mark_passing(self.site, x[passing])

    def product(self, out: Ids, *factors: Ids) -> None:
        """Elementwise: ``out`` is kept exactly when all factors are."""
        self._space.products.append((out, factors))

    def some(self, ids: Ids, given: Ids) -> None:
        """At least one of ``ids`` is kept where any of ``given`` is."""
        if len(ids):
            self._space.some.append((ids, given))

    def fixed(self, ids: Ids, reason: str) -> None:
        """Never removed, and why."""
        for e in ids.tolist():
            self._space.fixed.setdefault(e, f"{reason} ({self.site.where})")


def _untyped(site: Site) -> bool:
    """Whether a call is a barrier, or comes after one."""
    return bool(site.why) or bool(site.out == UNKNOWN)


_READS = {
    "shape": frozenset({"getitem"}),
    "const": frozenset({"getitem", "narrow", "zeros", "index-wide"}),
    "zeros": frozenset({"scatter-add"}),
}
"""Ops that follow where the width of a value changes, by the kind of what they read it from."""


@dataclass
class BlockSpace:
    """All elements of a typed graph and the relations between them. Built once, then read."""

    sites: Mapping[str, Site]
    spans: dict[tuple[str, str | None], Span] = field(default_factory=dict)
    n: int = 0
    products: list[tuple[Ids, tuple[Ids, ...]]] = field(default_factory=list)
    some: list[tuple[Ids, Ids]] = field(default_factory=list)
    fixed: dict[int, str] = field(default_factory=dict)
    barriers: list[str] = field(default_factory=list)
    _same: list[tuple[Ids, Ids]] = field(default_factory=list)
    _passing: dict[str, list[Ids]] = field(default_factory=dict)

    @classmethod
    def build(cls, sites: Mapping[str, Site]) -> BlockSpace:
        space = cls(sites)
        for name, site in sites.items():
            space._add_spans(name, site)
        first_call: dict[Any, Site] = {}
        for site in sites.values():
            space._relate(site)
            if site.node.op == "call_module":
                other = first_call.setdefault(site.node.target, site)
                if other is not site:
                    space._tie_calls(other, site)
        space._fix_widths()
        space._fix_shared_tensors()
        return space

    def _add_spans(self, name: str, site: Site) -> None:
        if site.node.op == "output":
            return
        if isinstance(site.out, IrrepsType):
            self._add(name, None, site.out.n_units)
            if site.out.layout is Layout.MUL_X_DIM:
                k, orders = site.out.segments[0].mul, len(site.out.segments)
                channel = self._add(name, "channel", k)
                order = self._add(name, "order", orders)
                self.products.append(
                    (self.ids_of(name), (np.tile(channel, orders), np.repeat(order, k)))
                )
        op = op_at(site)
        if op is not None and site.node.op.startswith("call") and not _untyped(site):
            for axis, size in op.axes(site).items():
                self._add(name, axis, size)

    def _add(self, node: str, axis: str | None, size: int) -> Ids:
        span = Span(node, axis, self.n, size)
        self.spans[node, axis] = span
        self.n += size
        return span.ids

    def ids_of(self, node: str, axis: str | None = None) -> Ids:
        span = self.spans.get((node, axis))
        return span.ids if span is not None else np.empty(0, np.int64)

    def _relate(self, site: Site) -> None:
        coupler = Coupler(self, site)
        node = site.node
        if node.op == "placeholder":
            coupler.fixed(coupler.out, "graph input")
        elif node.op == "output":
            for i in range(len(site.operands)):
                coupler.fixed(coupler.operand(i), "graph output")
        elif node.op.startswith("call"):
            if site.why and site.why != BEHIND:
                self.barriers.append(node.name)
            if site.why:
                coupler.fixed(coupler.out, "result of a barrier")
            op = op_at(site)
            if op is None or _untyped(site):
                for i in range(len(site.operands)):
                    coupler.fixed(coupler.operand(i), "operand of a barrier")
            else:
                op.couple(site, coupler)

    def _tie_calls(self, a: Site, b: Site) -> None:
        """Two calls of one module share its weights, hence its masks."""
        op = op_of_node(a.node, a.module)
        if op is None or not op.ties_calls:
            return
        if _untyped(a) or _untyped(b):
            for site in (a, b):
                Coupler(self, site).fixed(self._all_of(site), "called behind a barrier as well")
            return
        pairs: list[tuple[str | None, str, str]] = [(None, a.node.name, b.node.name)]
        pairs += [(None, x.name, y.name) for x, y in zip(a.operands, b.operands, strict=False)]
        pairs += [(axis, a.node.name, b.node.name) for axis in op.axes(a)]
        for axis, x, y in pairs:
            ids_x, ids_y = self.ids_of(x, axis), self.ids_of(y, axis)
            if len(ids_x) != len(ids_y):
                raise BarrierError(
                    f"module {a.node.target} is called at {x} and {y} with values of different size"
                )
            self.add_same(ids_x, ids_y)

    def _all_of(self, site: Site) -> Ids:
        """Units of operands and result, and entries of internal axes, of a call."""
        found = [self.ids_of(o.name) for o in site.operands]
        found += [span.ids for (name, _), span in self.spans.items() if name == site.node.name]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _fix_widths(self) -> None:
        """A value whose width is computed with stays whole: the number would change."""
        for site in self.sites.values():
            op = op_at(site)
            for t in site.types:
                if not isinstance(t, Other) or t.width_of is None:
                    continue
                readers = _READS.get(t.kind, frozenset())
                if op is None or op.name not in readers:
                    ids = self.ids_of(t.width_of)
                    Coupler(self, site).fixed(ids, "its width is computed with")

    def _fix_shared_tensors(self) -> None:
        """Modules whose tensors or parts the graph also reads by themselves stay whole."""
        calls = [s for s in self.sites.values() if s.node.op == "call_module"]
        for site in calls:
            inside = f"{site.node.target}."
            for other in self.sites.values():
                if other.node.op in ("get_attr", "call_module") and str(
                    other.node.target
                ).startswith(inside):
                    for cut in (site, other):
                        whole = self._all_of(cut)
                        Coupler(self, cut).fixed(whole, "tensors that the graph also reads alone")

    def add_same(self, a: Ids, b: Ids) -> None:
        if len(a) != len(b):
            raise BarrierError(f"cannot relate {len(a)} elements to {len(b)}")
        self._same.append((a, b))

    def mark_passing(self, site: Site, ids: Ids) -> None:
        self._passing.setdefault(site.node.name, []).append(ids)

    def passing(self, node: str) -> set[int]:
        """Elements that the node hands on unchanged in its result (elementwise), not mixes."""
        return {int(e) for ids in self._passing.get(node, ()) for e in ids}

    @cached_property
    def class_of(self) -> Ids:
        """The class of every element, [n]."""
        if not self.n:
            return np.empty(0, np.int64)
        if not self._same:
            return np.arange(self.n)
        rows = np.concatenate([a for a, _ in self._same])
        cols = np.concatenate([b for _, b in self._same])
        links = coo_matrix((np.ones(len(rows), bool), (rows, cols)), shape=(self.n, self.n))
        _, labels = connected_components(links, directed=False)
        return np.asarray(labels, dtype=np.int64)

    @cached_property
    def n_classes(self) -> int:
        return int(self.class_of.max()) + 1 if self.n else 0

    @cached_property
    def derived(self) -> BoolMask:
        """Classes that are products of others, [n_classes]."""
        out = np.zeros(self.n_classes, bool)
        for ids, _ in self.products:
            out[self.class_of[ids]] = True
        return out

    @cached_property
    def fixed_classes(self) -> BoolMask:
        out = np.zeros(self.n_classes, bool)
        if self.fixed:
            out[self.class_of[np.fromiter(self.fixed, np.int64)]] = True
        return out

    @cached_property
    def message_axes(self) -> BoolMask:
        """Elements that are channels or orders of a message (layout mul_x_dim), [n]."""
        out = np.zeros(self.n, bool)
        for (_, axis), span in self.spans.items():
            if axis in ("channel", "order"):
                out[span.start : span.start + span.size] = True
        return out

    @cached_property
    def _flat_products(self) -> list[tuple[Ids, list[Ids]]]:
        return [
            (self.class_of[out], [self.class_of[f] for f in factors])
            for out, factors in self.products
        ]

    @cached_property
    def _not_empty(self) -> list[tuple[Ids, Ids | None]]:
        """Classes of which one is kept at least, always or where one of others is."""
        found: list[tuple[Ids, Ids | None]] = [
            (self.class_of[span.ids], None) for span in self.spans.values() if span.size
        ]
        return found + [(self.class_of[ids], self.class_of[given]) for ids, given in self.some]

    def close(self, keep: BoolMask, prefer: BoolMask | None = None) -> BoolMask:
        """The smallest legal set of kept classes that contains ``keep``.

        Legal: fixed classes are kept, products hold, and every value, every axis and whatever an op
        says needs one keeps one element: the first of those in ``prefer`` where it would keep none.
        """
        keep = keep | self.fixed_classes
        while True:
            before = int(keep.sum())
            for out, factors in self._flat_products:
                for f in factors:
                    keep[f[keep[out]]] = True
                alive = np.logical_and.reduce([keep[f] for f in factors])
                keep[out[alive]] = True
            for classes, given in self._not_empty:
                if not keep[classes].any() and (given is None or keep[given].any()):
                    liked = classes if prefer is None else classes[prefer[classes]]
                    keep[liked[0] if len(liked) else classes[0]] = True
            if int(keep.sum()) == before:
                return keep

    def without(self, removed: BoolMask, prefer: BoolMask | None = None) -> BoolMask:
        """Legal kept classes after removing ``removed`` and the products that need them."""
        removed = removed & ~self.fixed_classes
        while True:
            before = int(removed.sum())
            for out, factors in self._flat_products:
                dead = np.logical_or.reduce([removed[f] for f in factors])
                removed[out[dead]] = True
            if int(removed.sum()) == before:
                return self.close(~removed, prefer)

    def elements(self, keep: BoolMask) -> BoolMask:
        """A class mask widened to elements, [n]."""
        return keep[self.class_of]

    def keep_at(self, site: Site, elements: BoolMask) -> Keep:
        """The element mask as one node's OpDef wants it."""
        name = site.node.name

        def of(node: str, axis: str | None = None) -> BoolMask | None:
            span = self.spans.get((node, axis))
            return None if span is None else elements[span.start : span.start + span.size]

        axes = {a: m for (n, a) in self.spans if n == name and a and (m := of(n, a)) is not None}
        return Keep(tuple(of(o.name) for o in site.operands), of(name), axes)

    @cached_property
    def members(self) -> list[Ids]:
        """The elements of every class."""
        order = np.argsort(self.class_of, kind="stable")
        cuts = np.searchsorted(self.class_of[order], np.arange(1, self.n_classes))
        return list(np.split(order, cuts))

    def locate(self, element: int) -> tuple[Span, int]:
        """The span that an element lies in, and its offset there."""
        starts = self._starts
        span = self._span_list[int(np.searchsorted(starts, element, side="right")) - 1]
        return span, element - span.start

    @cached_property
    def _span_list(self) -> list[Span]:
        return [s for s in self.spans.values() if s.size]

    @cached_property
    def _starts(self) -> Ids:
        return np.array([s.start for s in self._span_list], np.int64)

    def relation_graph(self) -> nx.Graph[str]:
        """Spans as nodes; an edge where at least one pair of elements is related."""
        g: nx.Graph[str] = nx.Graph()
        g.add_nodes_from(s.name for s in self.spans.values() if s.size)
        for a, b in self._same:
            if len(a):
                g.add_edge(
                    self.locate(int(a[0]))[0].name, self.locate(int(b[0]))[0].name, kind="same"
                )
        for out, factors in self.products:
            for f in factors:
                if len(out):
                    x, y = self.locate(int(out[0]))[0].name, self.locate(int(f[0]))[0].name
                    g.add_edge(x, y, kind="product")
        return g
