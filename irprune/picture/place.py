"""Places for the nodes of one strip: columns by how deep a node is, lanes by chains of nodes.

A strip is read from left to right. A node stands in the column of its longest way from the nodes that
read nothing, or further right where that brings it next to its first reader. The longest way to the
end is the first lane; what is left is cut into ways again, each in the highest lane that is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from irprune.picture.model import Rect

COLUMN_GAP = 24.0
LANE_GAP = 14.0


@dataclass(frozen=True)
class Item:
    """Something to place; what it reads comes before it in the sequence."""

    name: str
    width: float
    height: float
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strip:
    """Where the items of one strip are, from its upper left corner."""

    columns: Mapping[str, int]
    lanes: Mapping[str, int]
    rects: Mapping[str, Rect]
    starts: tuple[float, ...]
    """The left end of every column."""
    ends: tuple[float, ...]
    tops: tuple[float, ...]
    """The upper end of every lane."""
    width: float
    height: float

    @cached_property
    def taken(self) -> frozenset[tuple[int, int]]:
        """(column, lane) where something stands."""
        return frozenset((c, self.lanes[name]) for name, c in self.columns.items())

    def route(self, source: str, target: str) -> list[tuple[float, float]]:
        """The points of an edge, each to the right of the one before.

        It changes lanes between columns, and goes along a lane that is free: that of the target, that
        of the source, or else the gap above the lower of the two.
        """
        a, b = self.rects[source], self.rects[target]
        first, last = self.columns[source], self.columns[target]
        start, end = (a.right, a.middle), (b.x, b.middle)
        if last == first + 1:
            return _distinct(
                [start, (self.ends[first], a.middle), (self.starts[last], b.middle), end]
            )
        one, two = self.lanes[source], self.lanes[target]
        between = range(first + 1, last)
        if not any((c, two) in self.taken for c in between):
            y = b.middle
        elif not any((c, one) in self.taken for c in between):
            y = a.middle
        else:
            y = self.tops[max(one, two)] - LANE_GAP / 2
        return _distinct(
            [
                start,
                (self.ends[first], a.middle),
                (self.starts[first + 1], y),
                (self.ends[last - 1], y),
                (self.starts[last], b.middle),
                end,
            ]
        )


def _distinct(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without points that repeat the one before."""
    return [p for i, p in enumerate(points) if not i or p != points[i - 1]]


def depths(items: Sequence[Item]) -> dict[str, int]:
    """Item → its column: the longest way to it, then as near to its first reader as it can be."""
    names = {i.name for i in items}
    depth: dict[str, int] = {}
    readers: dict[str, list[str]] = {i.name: [] for i in items}
    for i in items:
        sources = [r for r in i.reads if r in names]
        depth[i.name] = max((depth[r] + 1 for r in sources), default=0)
        for r in sources:
            readers[r].append(i.name)
    for i in reversed(items):
        if readers[i.name]:
            depth[i.name] = min(depth[r] for r in readers[i.name]) - 1
    return depth


def place(items: Sequence[Item], end: str | None = None) -> Strip:
    """Places the items of one strip.

    Args:
        items: in an order in which what is read comes first.
        end: the item that the strip leads to; its way is the first lane.
    """
    columns = depths(items)
    used = sorted(set(columns.values()))
    columns = {name: used.index(c) for name, c in columns.items()}
    lanes = _lanes(items, columns, end)
    widths = [0.0] * len(used)
    heights = [0.0] * (max(lanes.values(), default=-1) + 1)
    for i in items:
        widths[columns[i.name]] = max(widths[columns[i.name]], i.width)
        heights[lanes[i.name]] = max(heights[lanes[i.name]], i.height)
    starts, tops = _cumulated(widths, COLUMN_GAP), _cumulated(heights, LANE_GAP)
    rects = {}
    for i in items:
        c, lane = columns[i.name], lanes[i.name]
        rects[i.name] = Rect(
            starts[c] + (widths[c] - i.width) / 2,
            tops[lane] + (heights[lane] - i.height) / 2,
            i.width,
            i.height,
        )
    return Strip(
        columns,
        lanes,
        rects,
        tuple(starts),
        tuple(s + w for s, w in zip(starts, widths, strict=True)),
        tuple(tops),
        starts[-1] + widths[-1] if starts else 0.0,
        tops[-1] + heights[-1] if tops else 0.0,
    )


def _cumulated(sizes: Sequence[float], gap: float) -> list[float]:
    out, at = [], 0.0
    for size in sizes:
        out.append(at)
        at += size + gap
    return out


def _lanes(items: Sequence[Item], columns: Mapping[str, int], end: str | None) -> dict[str, int]:
    """Cuts the items into ways, and gives each the highest lane that is free up to its last reader."""
    left = {i.name: i for i in items}
    readers: dict[str, list[int]] = {i.name: [] for i in items}
    for i in items:
        for r in i.reads:
            if r in readers:
                readers[r].append(columns[i.name])
    lanes: dict[str, int] = {}
    runs: list[list[tuple[int, int]]] = []
    while left:
        way = _longest(list(left.values()), end if end in left else None)
        for name in way:
            del left[name]
        first = columns[way[0]]
        last = max([columns[way[-1]], *(c - 1 for c in readers[way[-1]])])
        lane = next(
            (n for n, taken in enumerate(runs) if all(b < first or a > last for a, b in taken)),
            len(runs),
        )
        if lane == len(runs):
            runs.append([])
        runs[lane].append((first, last))
        lanes |= dict.fromkeys(way, lane)
    return lanes


def _longest(items: Sequence[Item], end: str | None) -> list[str]:
    """The way of the most items, to ``end`` if it is given; the first of several."""
    length: dict[str, int] = {}
    before: dict[str, str | None] = {}
    for i in items:
        sources = [r for r in i.reads if r in length]
        best = max(sources, key=lambda r: length[r], default=None)
        before[i.name] = best
        length[i.name] = 1 + (length[best] if best is not None else 0)
    at: str | None = end if end is not None else max(length, key=lambda n: length[n])
    way: list[str] = []
    while at is not None:
        way.append(at)
        at = before[at]
    return way[::-1]
