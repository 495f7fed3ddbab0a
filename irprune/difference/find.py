"""Comparing two graphs."""

from __future__ import annotations

from pathlib import Path

import torch

from irprune.cost import DEFAULT_EDGES_PER_ATOM, flops_per_atom, node_costs
from irprune.difference.match import matched
from irprune.difference.result import BlockChange, GraphDiff, Node, NodeChange
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.text import listing_of
from irprune.text.build import tensors_of
from irprune.text.listing import Statement
from irprune.text.values import Ref, print_argument, print_type
from irprune.verification.checks import worse


def diff(
    a: EquivariantGraph | str | Path, b: EquivariantGraph | str | Path, trust: bool = False
) -> GraphDiff:
    """What went, came and changed from ``a`` to ``b``.

    Nodes are the same where they call the same module or function
    (:mod:`irprune.difference.match`); new numbers in their names are no change. Weights of the same
    shape are compared by value, in float64.

    Args:
        a: a graph, file or name: before.
        b: likewise: after.
        trust: as for ``load``.

    Raises:
        UsageError, ModelFileError: as for ``load``.
    """
    one, two = (_graph(m, trust) for m in (a, b))
    before, after = listing_of(one), listing_of(two)
    same = matched(before, after)
    ours, theirs = _nodes(one, before.statements, same), _nodes(two, after.statements, {})
    kept = set(same.values())
    found = (_change(one, two, ours[n], theirs[m]) for n, m in same.items())
    return GraphDiff(
        before=one.stats(),
        after=two.stats(),
        removed=tuple(n for name, n in ours.items() if name not in same),
        added=tuple(n for name, n in theirs.items() if name not in kept),
        changed=tuple(c for c in found if c is not None),
        layers=_layers(one, two),
        axes=_axes(one, two),
    )


def _graph(model: EquivariantGraph | str | Path, trust: bool) -> EquivariantGraph:
    from irprune.api import load

    return model if isinstance(model, EquivariantGraph) else load(model, trust=trust)


def _nodes(
    graph: EquivariantGraph, statements: tuple[Statement, ...], renamed: dict[str, str]
) -> dict[str, Node]:
    """Every node by name; arguments in the names of the other graph, where it has them."""
    costs = node_costs(graph)
    edges = graph.edges_per_atom or DEFAULT_EDGES_PER_ATOM
    out = {}
    for s in statements:
        cost, site = costs[s.name], graph.sites[s.name]
        args = [print_argument(_renamed(a, renamed)) for a in s.args]
        args += [f"{k}={print_argument(_renamed(a, renamed))}" for k, a in s.kwargs]
        prefix = f"{s.target}." if s.kind == "module" else ""
        out[s.name] = Node(
            name=s.name,
            op=s.op or s.kind,
            called=s.target,
            type=print_type(site.out),
            args=", ".join(args),
            params=cost.params,
            flops_per_atom=flops_per_atom(cost, site.out, edges),
            tensors=tuple(
                f"{path.removeprefix(prefix)} {str(t.dtype).removeprefix('torch.')}"
                f"[{'x'.join(map(str, t.shape))}]"
                for path, t in tensors_of(graph.gm, site.node).items()
            ),
        )
    return out


def _renamed(a: object, names: dict[str, str]) -> object:
    if isinstance(a, Ref):
        return Ref(names.get(a.name, a.name))
    if isinstance(a, (tuple, list)):
        return type(a)(_renamed(x, names) for x in a)
    if isinstance(a, dict):
        return {k: _renamed(v, names) for k, v in a.items()}
    if isinstance(a, slice):
        return slice(*(_renamed(x, names) for x in (a.start, a.stop, a.step)))
    return a


def _change(
    one: EquivariantGraph, two: EquivariantGraph, before: Node, after: Node
) -> NodeChange | None:
    parts = [
        part
        for part in ("op", "called", "type", "args", "tensors")
        if getattr(before, part) != getattr(after, part)
    ]
    weights = None
    shapes = [[t.rpartition("[")[2] for t in n.tensors] for n in (before, after)]
    if shapes[0] == shapes[1]:
        weights = _difference(one, two, before.name, after.name)
        if weights:
            parts.append("weights")
    return NodeChange(before, after, tuple(parts), weights) if parts else None


def _difference(one: EquivariantGraph, two: EquivariantGraph, n: str, m: str) -> float:
    """Largest difference of the tensors of two nodes over the largest value; 0 without tensors."""
    worst = 0.0
    ours, theirs = tensors_of(one.gm, one.sites[n].node), tensors_of(two.gm, two.sites[m].node)
    for x, y in zip(ours.values(), theirs.values(), strict=True):
        if x.numel() and not torch.equal(x, y.to(x)):
            scale = max(float(x.double().abs().max()), 1e-300)
            worst = worse(worst, float((x.double() - y.double()).abs().max()) / scale)
    return worst


def _layers(one: EquivariantGraph, two: EquivariantGraph) -> tuple[BlockChange, ...]:
    counts = []
    for graph in (one, two):
        types = {k: graph.sites[n].out for k, n in graph.labels.items() if n in graph.sites}
        counts.append({k: t.counts() for k, t in types.items() if isinstance(t, IrrepsType)})
    before, after = counts
    return tuple(
        BlockChange(
            layer, "layer", ir,
            before.get(layer, {}).get(ir, 0), after.get(layer, {}).get(ir, 0),
        )
        for layer in dict.fromkeys([*before, *after])
        for ir in dict.fromkeys([*before.get(layer, {}), *after.get(layer, {})])
    )  # fmt: skip


def _axes(one: EquivariantGraph, two: EquivariantGraph) -> tuple[BlockChange, ...]:
    before, after = ({(a.name, a.kind, a.ir): len(a.groups) for a in g.axes()} for g in (one, two))
    return tuple(
        BlockChange(*key, before.get(key, 0), after.get(key, 0))
        for key in dict.fromkeys([*before, *after])
        if before.get(key, 0) != after.get(key, 0)
    )
