"""Treemaps: the area of a node is its share of the parameters, FLOPs or time of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irprune.picture.model import Picture, Rect


@dataclass(frozen=True)
class Tile:
    """One node, or one layer around its nodes."""

    name: str
    """Of the node; of the layer where it is one."""
    op: str
    """Empty for a layer."""
    layer: str
    value: float
    rect: Rect


@dataclass(frozen=True)
class Treemap:
    """Layers and in them nodes; areas are proportional to values, nothing else takes room."""

    measure: str
    layers: tuple[Tile, ...]
    nodes: tuple[Tile, ...]
    rect: Rect

    @property
    def total(self) -> float:
        return sum(t.value for t in self.nodes)


def treemap_of(picture: Picture, measure: str, width: float, height: float) -> Treemap:
    """The treemap of a picture's nodes; those whose value is 0 or not known are left out."""
    rect = Rect(0, 0, width, height)
    values: dict[str, dict[str, float]] = {}
    ops: dict[str, str] = {}
    for b in picture.boxes:
        value = b.value.measure(measure) or 0.0
        ops[b.value.name] = b.value.op
        if value > 0:
            values.setdefault(b.value.layer, {})[b.value.name] = value
    sums = {layer: sum(nodes.values()) for layer, nodes in values.items()}
    layers, nodes = [], []
    for layer, place in squarified(sums, rect).items():
        layers.append(Tile(layer, "", layer, sums[layer], place))
        nodes += [
            Tile(name, ops[name], layer, values[layer][name], r)
            for name, r in squarified(values[layer], place).items()
        ]
    return Treemap(measure, tuple(layers), tuple(nodes), rect)


def squarified(values: Mapping[str, float], rect: Rect) -> dict[str, Rect]:
    """Fills a rectangle with one for each value, with areas in proportion and sides not too unequal.

    The algorithm of Bruls, Huizing and van Wijk: rows along the shorter side, each as long as that
    makes its worst rectangle squarer.
    """
    total = sum(values.values())
    if total <= 0 or rect.width <= 0 or rect.height <= 0:
        return {}
    scale = rect.width * rect.height / total
    left = sorted(((n, v * scale) for n, v in values.items()), key=lambda item: -item[1])
    found: dict[str, Rect] = {}
    while left:
        side = min(rect.width, rect.height)
        n = 1
        while n < len(left) and _worst(left[: n + 1], side) <= _worst(left[:n], side):
            n += 1
        row, left = left[:n], left[n:]
        rect = _filled(row, rect, last=not left, into=found)
    return found


def _worst(row: Sequence[tuple[str, float]], side: float) -> float:
    """The largest ratio of sides in a row of areas along a side."""
    areas = [a for _, a in row]
    thick = sum(areas) / side
    return max(max(thick * thick / a, a / (thick * thick)) for a in areas)


def _filled(
    row: Sequence[tuple[str, float]], rect: Rect, last: bool, into: dict[str, Rect]
) -> Rect:
    """Puts a row along the shorter side, and gives what is left of the rectangle."""
    area = sum(a for _, a in row)
    upright = rect.width >= rect.height
    side = rect.height if upright else rect.width
    thick = (rect.width if upright else rect.height) if last else area / side
    at = 0.0
    for name, a in row:
        length = side * a / area
        into[name] = (
            Rect(rect.x, rect.y + at, thick, length)
            if upright
            else Rect(rect.x + at, rect.y, length, thick)
        )
        at += length
    if upright:
        return Rect(rect.x + thick, rect.y, max(rect.width - thick, 0.0), rect.height)
    return Rect(rect.x, rect.y + thick, rect.width, max(rect.height - thick, 0.0))
