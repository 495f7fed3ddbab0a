"""From the nodes of a graph to a picture: a band for each layer, its nodes from left to right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irprune.picture.layers import in_order
from irprune.picture.model import Band, Box, Edge, Group, Picture, Port, Rect, Value
from irprune.picture.place import Item, Strip, depths, place

COLUMNS = 12
"""What a row holds; a layer with more columns takes several rows."""
COLUMNS_BESIDE = 9
"""The same for pictures that stand side by side."""
MARGIN = 14.0
HEAD = 28.0
"""Of a band: its title."""
DOTS = 18.0
"""Of a band: the row of values without irreps."""
BAND_GAP = 14.0
DOT = 8.0
DOT_STEP = 13.0
WIDE = 124.0
"""The width of a call of a module."""
SMALL = 72.0
"""The width of anything else."""
WIDE_HEAD = 31.0
"""What its name and its numbers take."""
SMALL_HEAD = 17.0
STRIPE = 5.0
"""The height of a stripe, with the gap below it."""
PORT = "port"
PORT_SIZE = (72.0, 16.0)


def lay_out(
    values: Sequence[Value],
    groups: Sequence[Group] = (),
    ends: Mapping[str, str] | None = None,
    name: str = "",
    columns: int = COLUMNS,
) -> Picture:
    """The picture of a graph.

    Args:
        values: its nodes in graph order; each reads nodes that come before it.
        groups: its coupled groups.
        ends: node that ends a layer → the layer.
        name: what the graph is called where two stand side by side.
        columns: that a row holds.
    """
    return _stacked(_plan(values, groups, ends or {}, name, columns), {})


def side_by_side(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """The same pictures with bands of equal names at equal heights, so that they can be compared."""
    plans = [
        _plan([b.value for b in p.boxes], p.groups, p.ends, p.name, COLUMNS_BESIDE)
        for p in pictures
    ]
    tall: dict[tuple[str, int], float] = {}
    order: list[tuple[str, int]] = []
    for plan in plans:
        at = 0
        for row in plan.rows:
            if row.key not in tall:
                order.insert(at, row.key)
            at = order.index(row.key) + 1
            tall[row.key] = max(tall.get(row.key, 0.0), row.height)
    tops, y = {}, 0.0
    for key in order:
        tops[key] = Rect(0, y, 0, tall[key])
        y += tall[key] + BAND_GAP
    return tuple(_stacked(plan, tops) for plan in plans)


@dataclass(frozen=True)
class _Row:
    """One row of a layer, placed by itself."""

    key: tuple[str, int]
    """The layer, and the number of the row in it."""
    label: str
    strip: Strip
    values: tuple[Value, ...]
    """Those with irreps."""
    dots: tuple[Value, ...]
    ports: Mapping[str, str]
    """Name of the item → the node that makes its value."""

    @property
    def height(self) -> float:
        return HEAD + self.strip.height + (DOTS if self.dots else 0.0) + MARGIN

    @property
    def width(self) -> float:
        return 2 * MARGIN + max(self.strip.width, len(self.dots) * DOT_STEP)


@dataclass(frozen=True)
class _Plan:
    """A picture whose rows are not yet stacked."""

    values: tuple[Value, ...]
    groups: tuple[Group, ...]
    ends: Mapping[str, str]
    name: str
    rows: tuple[_Row, ...]


def _plan(
    values: Sequence[Value],
    groups: Sequence[Group],
    ends: Mapping[str, str],
    name: str,
    columns: int,
) -> _Plan:
    by_name = {v.name: v for v in values}
    rows = []
    for layer in in_order({v.name: v.layer for v in values}):
        mine = [v for v in values if v.layer == layer]
        parts = _parts([v for v in mine if not v.plain], columns)
        for n, part in enumerate(parts):
            label = layer if len(parts) == 1 else f"{layer}, {n + 1} of {len(parts)}"
            dots = [v for v in mine if v.plain] if n + 1 == len(parts) else []
            rows.append(_row((layer, n), label, part, dots, by_name, ends))
    return _Plan(tuple(values), tuple(groups), ends, name, tuple(rows))


def _parts(values: Sequence[Value], columns: int) -> list[list[Value]]:
    """The values of a layer, cut by depth where one row has too many columns; one part at least."""
    deep = depths([_item(v, v.reads) for v in values])
    deepest = max(deep.values(), default=0) + 1
    parts = math.ceil(deepest / columns)
    per = math.ceil(deepest / parts)
    return [[v for v in values if deep[v.name] // per == n] for n in range(parts)]


def _item(v: Value, reads: Sequence[str]) -> Item:
    width, head = (WIDE, WIDE_HEAD) if v.wide else (SMALL, SMALL_HEAD)
    return Item(v.name, width, head + STRIPE * len(v.stripes) + 4, tuple(reads))


def _row(
    key: tuple[str, int],
    label: str,
    values: Sequence[Value],
    dots: Sequence[Value],
    by_name: Mapping[str, Value],
    ends: Mapping[str, str],
) -> _Row:
    here = {v.name for v in values}
    outside = dict.fromkeys(
        r for v in values for r in v.reads if r not in here and not by_name[r].plain
    )
    ports = {f"{PORT} {r}": r for r in outside}
    at = {r: item for item, r in ports.items()}
    items = [Item(item, PORT_SIZE[0], PORT_SIZE[1]) for item in ports]
    items += [_item(v, [at.get(r, r) for r in v.reads]) for v in values]
    end = next((v.name for v in reversed(values) if v.name in ends), None)
    return _Row(key, label, place(items, end), tuple(values), tuple(dots), ports)


def _stacked(plan: _Plan, tops: Mapping[tuple[str, int], Rect]) -> Picture:
    """The picture: rows one below the other, or at the heights given."""
    width = max((r.width for r in plan.rows), default=0.0)
    by_name = {v.name: v for v in plan.values}
    boxes: dict[str, Box] = {}
    ports: list[Port] = []
    edges: list[Edge] = []
    bands: list[Band] = []
    y = 0.0
    for n, row in enumerate(plan.rows):
        slot = tops.get(row.key, Rect(0, y, 0, row.height))
        y = slot.bottom + BAND_GAP
        made = (*row.values, *row.dots)
        bands.append(
            Band(
                row.label,
                Rect(0, slot.y, width, slot.height),
                sum(v.params for v in made),
                sum(v.flops for v in made),
                len(row.dots),
            )
        )
        left, top = MARGIN, slot.y + HEAD
        for v in row.values:
            boxes[v.name] = Box(v, row.strip.rects[v.name].moved(left, top), n)
        for i, v in enumerate(row.dots):
            spot = Rect(left + i * DOT_STEP, slot.bottom - DOTS + 3, DOT, DOT)
            boxes[v.name] = Box(v, spot, n)
        for item, source in row.ports.items():
            label = plan.ends.get(source) or by_name[source].short
            ports.append(Port(source, label, row.strip.rects[item].moved(left, top), n))
        edges += _inside(row, left, top)
    edges += _between(boxes, ports, bands)
    return Picture(
        tuple(boxes[v.name] for v in plan.values), tuple(ports), tuple(edges), tuple(bands),
        plan.groups, width, max((b.rect.bottom for b in bands), default=0.0), plan.name, plan.ends,
    )  # fmt: skip


def _inside(row: _Row, x: float, y: float) -> list[Edge]:
    at = {source: item for item, source in row.ports.items()}
    found = []
    for v in row.values:
        for r in dict.fromkeys(v.reads):
            item = at.get(r, r)
            if item in row.strip.rects:
                points = row.strip.route(item, v.name)
                found.append(Edge(r, v.name, tuple((a + x, b + y) for a, b in points)))
    return found


def _between(boxes: Mapping[str, Box], ports: Sequence[Port], bands: Sequence[Band]) -> list[Edge]:
    """From a value through the gap below its band to a port at the left end of the next."""
    found = []
    for p in ports:
        box = boxes[p.source]
        if box.band + 1 != p.band or p.rect.x > MARGIN:
            continue
        x, gap = box.rect.right + 10, bands[p.band].rect.y - BAND_GAP / 2
        left = p.rect.x - 6
        points = (
            (box.rect.right, box.rect.middle), (x, box.rect.middle), (x, gap),
            (left, gap), (left, p.rect.middle), (p.rect.x, p.rect.middle),
        )  # fmt: skip
        found.append(Edge(p.source, p.source, points, between=True))
    return found
