"""A function of one variable as splines: where its pieces meet, and how fine they must be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irprune.errors import LegalityError, UsageError
from irprune.splines import functions as _functions  # noqa: F401  (registers the rules)
from irprune.splines.hermite import check_degree, coefficients, slope_error, value_error
from irprune.splines.series import Series, Undecided

Function = Callable[[Series], Any]
"""Of a Series of [K, 1] to one of [K, W]."""
LOOK, CHUNK, PIECES, MOST = 128, 512, 16, 1 << 15
"""Intervals to begin with where derivatives are bounded; how many are evaluated at once; the most
comparisons; the most polynomials of a piece."""
CLOSE, CUT, DEPTH = 8.0, 4, 5
"""How near a bound must come to what is seen of a derivative; parts that intervals with worse ones are
cut into, and how often."""
OFFSETS = (-0.381966, 0.236068)
"""Of the two grids on which comparisons are looked for, in intervals."""
GRADE = 2.0
"""Pieces are cut so that none ends at more than this times its start: near atoms f bends more."""
INSIDE = 1e-6
"""How far inside of a piece, relative to its width, its end knots are expanded."""


@dataclass(frozen=True)
class Scale:
    """Typical sizes of a function: medians over the variable of the largest output."""

    value: float
    slope: float


@dataclass(frozen=True, eq=False)
class Splines:
    """Piecewise polynomials that stand for functions on common knots, and what is proven of them."""

    pieces: tuple[tuple[float, float, int], ...]
    """(start, stop, intervals): intervals of one width within a piece."""
    table: Tensor
    """[functions, intervals in all, degree + 1, W] float64, powers of t in [0, 1]."""
    scales: tuple[Scale, ...]
    """Of each function: what errors are relative to."""
    value_bound: float
    """|f − spline| is nowhere larger, relative to the median over distances of the largest |f|."""
    slope_bound: float
    """|f′ − spline′|, likewise."""


def breakpoints(f: Function, start: float, stop: float) -> list[float]:
    """Where comparisons inside of f change, from start to stop, both included.

    Raises:
        LegalityError: f is not understood, or has too many pieces.
    """
    found: list[float] = []
    for offset in OFFSETS:  # what lies on an edge of one grid lies within an interval of the other
        places = (torch.arange(1, 2 * LOOK, dtype=torch.float64) + offset) / (2 * LOOK)
        while True:
            edges = torch.tensor([start, *found, stop], dtype=torch.float64)
            edges = torch.cat([edges, start + (stop - start) * places]).unique()
            middle, radius = _intervals(edges)
            try:
                _run(f, middle, radius, 1)
                break
            except Undecided as cut:
                found = sorted([*found, float(middle[cut.row]) + cut.offset])
            if len(found) > PIECES:
                raise LegalityError(f"it has more than {PIECES} pieces")
    return [start, *found, stop]


def graded(ends: list[float]) -> list[float]:
    """The same ends, and more between those that lie further apart than GRADE."""
    out = [ends[0]]
    for a, b in itertools.pairwise(ends):
        count = max(1, math.ceil(math.log(b / a) / math.log(GRADE)))
        out += [a * (b / a) ** (i / count) for i in range(1, count)] + [b]
    return out


def splines(
    functions: Sequence[Function],
    start: float,
    stop: float,
    degree: int,
    tol: float,
) -> Splines:
    """Splines whose bounds on value and slope are at most ``tol``, on as few knots as prove it.

    Args:
        functions: all of one number of outputs.
        start: > 0, where the range begins.
        stop: where it ends.
        degree: 3 or 5.
        tol: bound on both errors, relative to the typical size of each function and its slope.

    Raises:
        UsageError: a degree that is not known, or a tolerance that needs too many knots.
        LegalityError: a function does something whose derivatives are not known.
    """
    check_degree(degree)
    scales = [scale_of(f, start, stop) for f in functions]
    cuts = {x for f in functions for x in breakpoints(f, start, stop)}
    pieces, tables, worst = [], [], (0.0, 0.0)
    ends = graded(sorted(cuts))
    for a, b in itertools.pairwise(ends):
        known = [largest_derivative(f, a, b, degree + 1) for f in functions]
        found = [_bounds(d, b - a, degree, s) for d, s in zip(known, scales, strict=True)]
        count = max(_count(bounds, degree, tol) for bounds in found)
        if count > MOST:
            raise UsageError(
                f"a tolerance of {tol:g} needs {count} polynomials of degree {degree} from {a:g} to"
                f" {b:g} Å, more than {MOST}; give a larger one, or a larger start"
            )
        edges = torch.linspace(a, b, count + 1, dtype=torch.float64)
        tables.append(torch.stack([_table(f, edges, degree) for f in functions]))
        pieces.append((a, b, count))
        shrink = (count ** (degree + 1), count**degree)
        for bounds in found:
            worst = (
                max(worst[0], bounds[0] / shrink[0]),
                max(worst[1], bounds[1] / shrink[1]),
            )
    return Splines(tuple(pieces), torch.cat(tables, dim=1), tuple(scales), *worst)


def _bounds(derivative: float, width: float, degree: int, scale: Scale) -> tuple[float, float]:
    """Of value and slope with one polynomial on the whole piece."""
    return (
        value_error(degree, width, derivative) / scale.value,
        slope_error(degree, width, derivative) / scale.slope,
    )


def _count(bounds: tuple[float, float], degree: int, tol: float) -> int:
    """The fewest intervals that bring both bounds down to ``tol``."""
    value, slope = ((x / tol) ** (1 / p) for x, p in zip(bounds, (degree + 1, degree), strict=True))
    return max(1, math.ceil(value), math.ceil(slope))


def largest_derivative(f: Function, start: float, stop: float, n: int) -> float:
    """Bound on |f⁽ⁿ⁾| of every output between start and stop, by branch and bound.

    Intervals whose bound is more than CLOSE times the largest value that is seen in a middle are cut
    again, and again.

    Raises:
        LegalityError: the derivatives are no numbers.
    """
    middle, radius = _intervals(torch.linspace(start, stop, LOOK + 1, dtype=torch.float64))
    kept, seen, bounds = 0.0, 0.0, torch.zeros(0)
    for depth in range(DEPTH + 1):
        found = []
        for m, r in zip(middle.split(CHUNK), radius.split(CHUNK), strict=True):
            try:
                out = _run(f, m, r, n + 1)
            except Undecided as cut:
                where = float(m[cut.row]) + cut.offset
                raise LegalityError(f"it changes its formula near {where:g} Å, unseen") from None
            if not bool(out.mid.isfinite().all()):
                raise LegalityError(f"its derivatives are no numbers near {float(m[0]):g} Å")
            found.append(out.largest(n).nan_to_num(math.inf).amax(1))
            seen = max(seen, float(out.seen(n).max()))
        bounds = torch.cat(found)
        wide = bounds > CLOSE * seen
        if depth == DEPTH or not bool(wide.any()):
            break
        kept = max(kept, float(bounds[~wide].max())) if bool((~wide).any()) else kept
        steps = torch.arange(1 - CUT, CUT, 2, dtype=torch.float64)
        middle = (middle[wide, None] + radius[wide, None] * steps / CUT).reshape(-1)
        radius = (radius[wide, None] / CUT).expand(-1, CUT).reshape(-1)
    bound = max(kept, float(bounds.max()))
    if not math.isfinite(bound):
        raise LegalityError(f"no bound on its derivatives is known from {start:g} to {stop:g} Å")
    return bound


def scale_of(f: Function, start: float, stop: float) -> Scale:
    """The scale of a function, from evenly spaced points."""
    edges = torch.linspace(start, stop, 2 * LOOK + 1, dtype=torch.float64)
    middle, radius = _intervals(edges)
    out = _run(f, middle, torch.zeros_like(radius), 1)
    value, slope = (_typical(out.largest(k).amax(1)) for k in (0, 1))
    return Scale(value, slope)


def _typical(sizes: Tensor) -> float:
    """The median of those that are not zero; 1 where all are."""
    sizes = sizes[sizes > 0]
    return float(sizes.median()) if sizes.numel() else 1.0


def _intervals(edges: Tensor) -> tuple[Tensor, Tensor]:
    a, b = edges[:-1], edges[1:]
    return (a + b) / 2, (b - a) / 2


def _run(f: Function, middle: Tensor, radius: Tensor, order: int) -> Series:
    out = f(Series.variable(middle, radius, order))
    if not isinstance(out, Series):
        raise LegalityError("it does not depend on the distance")
    return out


def _table(f: Function, edges: Tensor, degree: int) -> Tensor:
    """[intervals, degree + 1, W]: powers of t on each interval of one width."""
    m, width = (degree + 1) // 2, float(edges[-1] - edges[0])
    inside = edges.clamp(float(edges[0]) + INSIDE * width, float(edges[-1]) - INSIDE * width)
    about = _run(f, inside, torch.zeros_like(inside), degree)
    known = _moved(about.mid, (edges - inside).unsqueeze(1))[:m]
    h = width / (edges.shape[0] - 1)
    known = known * known.new_tensor([h**k for k in range(m)]).reshape(-1, 1, 1)
    return coefficients(known[:, :-1], known[:, 1:]).movedim(0, 1).contiguous()


def _moved(series: Tensor, by: Tensor) -> Tensor:
    """Taylor coefficients [n + 1, K, W] about points that lie ``by`` [K, 1] further."""
    n = series.shape[0]
    return torch.stack(
        [
            torch.stack([math.comb(k, j) * series[k] * by ** (k - j) for k in range(j, n)]).sum(0)
            for j in range(n)
        ]
    )
