"""Axes: the coupled groups, sorted by where they live."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from irprune.blocks import Axis, BlockSpace, Span
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import op_at


def _segment(space: BlockSpace, span: Span, offset: int) -> int:
    t = space.sites[span.node].out
    assert isinstance(t, IrrepsType)
    return int(np.searchsorted(t.starts, offset, side="right")) - 1


def _rank(space: BlockSpace, span: Span, offset: int, position: int) -> tuple[int, int, int]:
    """Prefers internal axes, then the highest order, then the last module that makes the unit."""
    if span.axis is not None:
        return (2, 0, -position)
    site = space.sites[span.node]
    assert isinstance(site.out, IrrepsType)
    order = site.out.unit_irs[offset][0]
    return (int(site.node.op == "call_module"), order, position)


def _describe(space: BlockSpace, span: Span, segment: int) -> tuple[str, str, str]:
    """(name, kind, irrep) of the axis that a canonical element belongs to."""
    site = space.sites[span.node]
    op = op_at(site)
    tied = site.node.op == "call_module" and op is not None and op.ties_calls
    path = str(site.node.target) if tied else span.node
    path = path.removeprefix("model.")
    if span.axis is not None:
        kind = {
            "channel": "channel", "order": "order", "order_out": "order", "path": "path",
        }.get(span.axis, "radial")  # fmt: skip
        return f"{path}.{span.axis}", kind, span.axis
    t = site.out
    assert isinstance(t, IrrepsType)
    seg = t.segments[segment]
    if t.space is Space.EDGE:
        single = site.node.op == "call_module" and t.n_units == len(t.segments)
        kind = "edge" if single else "scalar"
        if kind == "edge":
            return path, kind, "order"
        if any(s.l for s in t):
            kind = "channel"
    else:
        kind = "channel"
    return f"{path}:{seg.ir}" + (f"#{segment}" if _repeats(t, segment) else ""), kind, seg.ir


def _repeats(t: IrrepsType, segment: int) -> bool:
    return sum(s.ir == t.segments[segment].ir for s in t) > 1


def find_axes(space: BlockSpace) -> tuple[Axis, ...]:
    """Free classes (not fixed, not products), grouped by their canonical value and segment."""
    position = {name: i for i, name in enumerate(space.sites)}
    found: dict[tuple[str, str | None, int], list[tuple[int, int]]] = defaultdict(list)
    spans: dict[tuple[str, str | None, int], Span] = {}
    for c, members in enumerate(space.members):
        if space.derived[c] or space.fixed_classes[c]:
            continue
        located = [space.locate(int(e)) for e in members]
        span, offset = max(located, key=lambda s: _rank(space, s[0], s[1], position[s[0].node]))
        whole = span.axis is not None or _is_harmonics(space, span)
        segment = 0 if whole else _segment(space, span, offset)
        key = (span.node, span.axis, segment)
        found[key].append((offset, c))
        spans[key] = span
    axes = []
    for key, groups in found.items():
        name, kind, ir = _describe(space, spans[key], key[2])
        axes.append(Axis(name, key[0], kind, ir, tuple(c for _, c in sorted(groups)), key[2]))
    return tuple(sorted(axes, key=lambda a: (position[a.node], a.kind, a.segment)))


def _is_harmonics(space: BlockSpace, span: Span) -> bool:
    t = space.sites[span.node].out
    return (
        isinstance(t, IrrepsType)
        and t.space is Space.EDGE
        and t.n_units == len(t.segments)
        and t.n_units > 1
        and space.sites[span.node].node.op == "call_module"
    )
