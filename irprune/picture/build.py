"""The picture of a graph: its nodes with types, blocks, costs, scores and coupled groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from irprune.cost import DEFAULT_EDGES_PER_ATOM, flops_per_atom, node_costs
from irprune.difference.match import matched
from irprune.irreps import IrrepsType
from irprune.picture.layers import ends_of, layers_of
from irprune.picture.layout import lay_out, side_by_side
from irprune.picture.model import Group, Picture, Stripe, Value
from irprune.text.build import listing_of
from irprune.text.values import print_type

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph
    from irprune.ops.base import Site

Times = Mapping[str, float]
"""Node → seconds, forward and backward."""


def picture_of(graph: EquivariantGraph, name: str = "", times: Times | None = None) -> Picture:
    """One graph; blocks that ``select`` chose to remove are shown as gone.

    Args:
        graph: any graph.
        name: what it is called.
        times: seconds of its nodes, where they were measured.
    """
    values = _values(graph, times or {}, {}, {})
    return lay_out(values, _groups(graph), _ends(graph), name)


def pictures_of(
    before: EquivariantGraph,
    after: EquivariantGraph,
    names: tuple[str, str] = ("before", "after"),
    times: tuple[Times, Times] = ({}, {}),
) -> tuple[Picture, Picture]:
    """Two graphs for comparison: equal bands at equal heights, what went, came and changed marked.

    Nodes are the same as for ``irprune.diff``. The second picture also says of each value what the
    first had.
    """
    listings = [listing_of(g) for g in (before, after)]
    same = matched(*listings)
    back = {new: old for old, new in same.items()}
    types = [{n: s.out for n, s in g.sites.items()} for g in (before, after)]
    states: list[dict[str, str]] = []
    for mine, other, link, word in (
        (types[0], types[1], same, "gone"),
        (types[1], types[0], back, "new"),
    ):
        states.append(
            {
                n: word if n not in link else "changed" if t != other[link[n]] else ""
                for n, t in mine.items()
            }
        )
    olds = {n: types[0][old] for n, old in back.items()}
    one, two = (
        lay_out(_values(g, t, s, o), _groups(g), _ends(g), name)
        for g, t, s, o, name in zip((before, after), times, states, ({}, olds), names, strict=True)
    )
    first, second = side_by_side((one, two))
    return first, second


def _reads(graph: EquivariantGraph) -> dict[str, tuple[str, ...]]:
    return {
        n: tuple(dict.fromkeys(s.name for s in site.node.all_input_nodes))
        for n, site in graph.sites.items()
    }


def _ends(graph: EquivariantGraph) -> dict[str, str]:
    """Node that ends a layer → the layer."""
    alone = {
        n
        for n, s in graph.sites.items()
        if s.node.op in ("call_function", "call_method") and isinstance(s.out, IrrepsType)
    }
    return ends_of(_reads(graph), graph.labels, alone)


def _values(
    graph: EquivariantGraph, times: Times, states: Mapping[str, str], olds: Mapping[str, object]
) -> list[Value]:
    reads = _reads(graph)
    layers = layers_of(reads, _ends(graph))
    costs = node_costs(graph)
    edges = graph.edges_per_atom or DEFAULT_EDGES_PER_ATOM
    member, fixed = _axes_by_node(graph), _fixed(graph)
    out = []
    for s in listing_of(graph).statements:
        site = graph.sites[s.name]
        out.append(
            Value(
                name=s.name,
                kind=s.kind,
                op=s.op or s.kind,
                called=s.target,
                layer=layers[s.name],
                type="" if s.kind == "return" else print_type(site.out),
                stripes=_stripes(graph, site, olds.get(s.name)),
                params=costs[s.name].params,
                flops=flops_per_atom(costs[s.name], site.out, edges),
                score=_score(graph, s.name),
                seconds=times.get(s.name),
                reads=reads[s.name],
                frozen=_frozen(graph, site, fixed),
                why=site.why,
                groups=tuple(member.get(s.name, ())),
                state=states.get(s.name, ""),
            )
        )
    return out


def _stripes(graph: EquivariantGraph, site: Site, old: object) -> tuple[Stripe, ...]:
    """Copies of every irrep by order and parity, now and before; those of a tuple's values together."""
    kept = graph.elements()[graph.blocks.ids_of(site.node.name)]
    now: Counter[tuple[int, int]] = Counter()
    before: Counter[tuple[int, int]] = Counter()
    for t in _irreps_in(site.out):
        for i, s in enumerate(t.segments):
            mine = kept[t.starts[i] : t.starts[i + 1]] if len(kept) == t.n_units else None
            now[s.l, -s.p] += s.mul if mine is None else int(mine.sum())
            before[s.l, -s.p] += s.mul
    had = Counter(dict.fromkeys(now, 0))
    for t in _irreps_in(old):
        for s in t.segments:
            had[s.l, -s.p] += s.mul
    return tuple(
        Stripe(f"{order}{'e' if parity < 0 else 'o'}", now[order, parity], n)
        for (order, parity), n in sorted((before | had).items())
    )


def _irreps_in(t: object) -> list[IrrepsType]:
    """A type with irreps, or those in a tuple of types."""
    if isinstance(t, tuple):
        return [x for x in t if isinstance(x, IrrepsType)]
    return [t] if isinstance(t, IrrepsType) else []


def _score(graph: EquivariantGraph, node: str) -> float | None:
    """The sum over the coupled groups that have blocks in a value, or entries on an axis of its op."""
    if graph.scores is None:
        return None
    classes = [graph.blocks.class_of[s.ids] for s in graph.blocks.spans.values() if s.node == node]
    if not classes:
        return None
    found = graph.scores.values[np.unique(np.concatenate(classes))]
    known = found[np.isfinite(found)]
    return float(known.sum()) if len(known) else None


def _fixed(graph: EquivariantGraph) -> dict[int, str]:
    """Class of blocks → the first reason why it is never removed."""
    found: dict[int, str] = {}
    for element, why in graph.blocks.fixed.items():
        found.setdefault(int(graph.blocks.class_of[element]), why)
    return found


def _frozen(graph: EquivariantGraph, site: Site, fixed: Mapping[int, str]) -> str:
    """Why no block of a value can be removed; empty where one can, and where it has none."""
    ids = graph.blocks.ids_of(site.node.name)
    classes = graph.blocks.class_of[ids].tolist()
    return fixed[classes[0]] if classes and all(c in fixed for c in classes) else ""


def _axes_by_node(graph: EquivariantGraph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in _groups(graph):
        for node in group.members:
            found.setdefault(node, []).append(group.name)
    return found


def _groups(graph: EquivariantGraph) -> tuple[Group, ...]:
    """Every axis, with the values in which its groups have blocks, in graph order."""
    space = graph.blocks
    spans = [s for s in space.spans.values() if s.size]
    nodes = [s.node for s in spans]
    starts = np.array([s.start for s in spans], np.int64)
    position = {name: i for i, name in enumerate(graph.sites)}
    out = []
    for axis in graph.axes():
        elements = np.concatenate([space.members[c] for c in axis.groups])
        at = np.unique(np.searchsorted(starts, elements, side="right") - 1)
        members = sorted({nodes[i] for i in at}, key=position.__getitem__)
        kept = len(axis.groups)
        if graph.keep is not None:
            kept = int(graph.keep[list(axis.groups)].sum())
        out.append(Group(axis.name, axis.kind, axis.ir, len(axis.groups), kept, tuple(members)))
    return tuple(out)
