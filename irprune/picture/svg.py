"""A picture as SVG: a box for each node, and stripes for its blocks, coloured by l."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil

from irprune.picture.layout import (
    DOT_STEP,
    DOTS,
    HEAD,
    MARGIN,
    SMALL_HEAD,
    STRIPE,
    WIDE_HEAD,
)
from irprune.picture.model import Band, Box, Edge, Picture, Port, Value
from irprune.picture.style import ALONE
from irprune.picture.words import named, said, title_of
from irprune.report.model import number
from irprune.report.svg import label_at, order_class

_PAD = 5.0
_SPACE = 28.0
"""Between two pictures."""
_TITLE = 22.0
_LETTER = 6.6
"""Width of a letter of a box's name, at most about."""
_NARROW = 5.7
"""The same for its numbers."""
_ROUND = 7.0


def drawing(picture: Picture, keys: Mapping[str, int] | None = None) -> str:
    """The shapes of a picture, without an ``svg`` element around them.

    Args:
        picture: what to draw.
        keys: coupled group → its number, for scripts that light up what belongs together.
    """
    widest = max((s.before for b in picture.boxes for s in b.value.stripes), default=1)
    most = {m: _most(picture, m) for m in picture.measures if m != "irreps"}
    parts = [_band(b) for b in picture.bands]
    frozen = {b.value.name for b in picture.boxes if b.value.frozen}
    parts += [_edge(e, bool({e.source, e.target} & frozen)) for e in picture.edges]
    parts += [_port(p, p.source in frozen) for p in picture.ports]
    parts += [_box(b, widest, most, keys or {}) for b in picture.boxes]
    return "".join(parts)


def picture_svg(pictures: Sequence[Picture], title: str = "") -> str:
    """A file of its own: one picture, or several side by side under their names.

    Follows the theme of who looks at it. Text on hovering is that of ``title`` elements.
    """
    x, parts = MARGIN, []
    if title:
        parts.append(label_at(MARGIN, MARGIN + 12, title, "title"))
    y = MARGIN + (_TITLE if title else 0)
    parts += _legend(pictures, y + 10)
    top = y + 2 * _TITLE
    for p in pictures:
        parts.append(label_at(x, top - 9, summary(p), "head"))
        parts.append(f'<g transform="translate({x:g} {top:g})">{drawing(p)}</g>')
        x += p.width + _SPACE
    width = x - _SPACE + MARGIN if pictures else 2 * MARGIN
    height = top + max((p.height for p in pictures), default=0.0) + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="irp" viewBox="0 0 {ceil(width)}'
        f' {ceil(height)}" width="{ceil(width)}" height="{ceil(height)}" role="img"'
        f' aria-label="{escape(title or "graph")}"><style>{ALONE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def marks(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """What colours and frames mean, those that occur: (CSS classes, text)."""
    values = [b.value for p in pictures for b in p.boxes]
    orders = sorted({s.order for v in values for s in v.stripes})
    states = {v.state for v in values}
    found = [(order_class(o), f"l = {o}") for o in orders]
    if any(s.before > s.now for v in values for s in v.stripes):
        found.append(("l0 went", "removed"))
    for state, text in (("gone", "not in the graph after"), ("new", "not in the graph before")):
        if state in states:
            found.append((f"key-frame {state}", text))
    if any(v.why for v in values):
        found.append(("key-frame barrier", "no op knows it"))
    if any(v.frozen and not v.plain for v in values):
        found.append(("key-frame frozen", "nothing of it can be removed"))
    return found


def _legend(pictures: Sequence[Picture], y: float) -> list[str]:
    x, out = MARGIN, []
    for cls, text in marks(pictures):
        out.append(
            f'<rect class="{cls}" x="{x:g}" y="{y - 9:g}" width="12" height="10" rx="2"/>'
            + label_at(x + 17, y, text, "dim")
        )
        x += 17 + _LETTER * len(text) + 16
    return out


def summary(picture: Picture) -> str:
    """``after: 283,634 parameters, 10.9 M FLOPs per atom, 103 nodes``."""
    lead = f"{picture.name}: " if picture.name else ""
    return (
        f"{lead}{number(int(picture.total('params')))} parameters,"
        f" {number(picture.total('flops'))} FLOPs per atom, {len(picture.boxes)} nodes"
    )


def _most(picture: Picture, measure: str) -> float:
    return max((b.value.measure(measure) or 0.0 for b in picture.boxes), default=0.0)


def _band(b: Band) -> str:
    r = b.rect
    about = f"{number(b.params)} parameters, {number(b.flops)} FLOPs per atom"
    dots = label_at(
        MARGIN + b.dots * DOT_STEP + 2, r.bottom - DOTS + 10.5, "without irreps", "m-dots"
    )
    return (
        f'<rect class="band" x="{r.x:g}" y="{r.y:g}" width="{r.width:g}" height="{r.height:g}"'
        f' rx="{_ROUND:g}"/>'
        + label_at(r.x + MARGIN, r.y + HEAD - 11, b.label, "title")
        + label_at(r.right - MARGIN, r.y + HEAD - 11, about, "dim", "end")
        + (dots if b.dots else "")
    )


def _edge(e: Edge, frozen: bool) -> str:
    cls = "edge" + (" between" if e.between else "") + (" frozen" if frozen else "")
    return (
        f'<path class="{cls}" data-a="{escape(e.source)}" data-b="{escape(e.target)}"'
        f' d="{_bent(e.points) if e.between else _smooth(e.points)}"/>'
    )


def _smooth(points: Sequence[tuple[float, float]]) -> str:
    """Lines where the height stays, curves where it changes."""
    (x, y), *rest = points
    out = [f"M{x:g} {y:g}"]
    for a, b in rest:
        middle = (x + a) / 2
        out.append(f"H{a:g}" if b == y else f"C{middle:g} {y:g} {middle:g} {b:g} {a:g} {b:g}")
        x, y = a, b
    return "".join(out)


def _bent(points: Sequence[tuple[float, float]]) -> str:
    """Right angles with round corners."""
    out = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(at, before), _towards(at, after)
        out.append(f"L{start[0]:g} {start[1]:g}Q{at[0]:g} {at[1]:g} {end[0]:g} {end[1]:g}")
    out.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(out)


def _towards(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """A point near ``a`` on the way to ``b``: half of the way, or less."""
    way = abs(b[0] - a[0]) + abs(b[1] - a[1])
    share = min(0.5, 4.0 / way) if way else 0.0
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _port(p: Port, frozen: bool) -> str:
    r = p.rect
    text = _fit(p.label, r.width - 6, _NARROW)
    return (
        f'<g class="in{" frozen" if frozen else ""}" data-n="{escape(p.source)}">'
        f'<rect class="port" x="{r.x:g}" y="{r.y:g}" width="{r.width:g}" height="{r.height:g}" rx="8"/>'
        + label_at(r.x + r.width / 2, r.middle + 3.4, text, "", "middle")
        + f"<title>{escape(p.source)}, made in another band</title></g>"
    )


def _box(b: Box, widest: int, most: Mapping[str, float], keys: Mapping[str, int]) -> str:
    v, r = b.value, b.rect
    groups = " ".join(str(keys[g]) for g in v.groups if g in keys)
    heat = ";".join(
        f"--{m}:{(v.measure(m) or 0.0) / top:.3f}" for m, top in most.items() if top > 0
    )
    inner = [f'<rect class="frame" x="{r.x:g}" y="{r.y:g}" width="{r.width:g}"'
             f' height="{r.height:g}" rx="{2 if v.plain else 4}"/>']  # fmt: skip
    if not v.plain:
        inner.append(
            f'<rect class="heat" x="{r.x:g}" y="{r.y:g}" width="{r.width:g}"'
            f' height="{r.height:g}" rx="4"/>'
        )
        inner += _inside(b, widest, list(most))
    return (
        f'<g class="{" ".join(_classes(v))}" data-n="{escape(v.name)}"'
        + (f' data-g="{groups}"' if groups else "")
        + (f' style="{heat}"' if heat and not v.plain else "")
        + f">{''.join(inner)}<title>{escape(title_of(v))}</title></g>"
    )


def _classes(v: Value) -> list[str]:
    size = "dot" if v.plain else "wide" if v.wide else "small"
    marks = {
        "frozen": bool(v.frozen), "barrier": bool(v.why), "param": v.plain and v.kind == "parameter",
        v.state: bool(v.state),
    }  # fmt: skip
    return ["node", size, *(name for name, on in marks.items() if on)]


def _inside(b: Box, widest: int, measures: Sequence[str]) -> list[str]:
    """Name, numbers and stripes of a box."""
    v, r = b.value, b.rect
    left, room = r.x + _PAD, r.width - 2 * _PAD
    letter = _LETTER if v.wide else _NARROW
    out = [label_at(left, r.y + (13.5 if v.wide else 12), _fit(named(v), room, letter), "head")]
    if v.wide:
        for m in ("irreps", *measures):
            text = _fit(said(v, m), room, _NARROW)
            out.append(label_at(left, r.y + 25.5, text, f"m m-{m}"))
    y = r.y + (WIDE_HEAD if v.wide else SMALL_HEAD)
    for s in v.stripes:
        for copies, cls in ((s.before, " went"), (s.now, "")):
            if copies and (not cls or s.before > s.now):
                length = max(room * copies / widest, 1.5)
                out.append(
                    f'<rect class="{order_class(s.order)}{cls}" x="{left:g}" y="{y:g}"'
                    f' width="{length:.1f}" height="{STRIPE - 1:g}" rx="1"/>'
                )
        y += STRIPE
    return out


def _fit(text: str, room: float, letter: float) -> str:
    """The text, or as much of it as there is room for."""
    most = int(room / letter)
    return text if len(text) <= most else f"{text[: most - 1]}…"
