"""Arithmetic, linear maps, comparisons and rearrangements of Series."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irprune.errors import LegalityError
from irprune.splines.balls import Term, inverse_of, scaled, stack, times, total
from irprune.splines.series import Series, Undecided, rule


def stacked(terms: list[Term], like: Series) -> Series:
    """Coefficients as a Series on the intervals of another."""
    return Series(*stack(terms), like.radius).tightened()


def constant(value: Any, like: Series) -> Tensor:
    """What does not depend on the variable, as a tensor."""
    if isinstance(value, Tensor):
        return value.to(like.dtype) if not value.is_floating_point() else value
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


@rule("add", "__add__", "__radd__")
def add(a: Any, b: Any, alpha: float = 1.0) -> Series:
    """a + alpha b."""
    if not isinstance(a, Series):
        a, b, alpha = b * alpha, a, 1.0
    if isinstance(b, Series):
        return Series(a.mid + alpha * b.mid, a.rad + abs(alpha) * b.rad, a.radius)
    value = constant(b, a) * alpha
    shape = torch.broadcast_shapes(a.shape, value.shape)
    mid = a.mid.expand(a.order + 1, *shape).clone()
    mid[0] = mid[0] + value
    return Series(mid, a.rad.expand(a.order + 1, *shape), a.radius)


@rule("sub", "__sub__")
def sub(a: Any, b: Any, alpha: float = 1.0) -> Series:
    """a − alpha b."""
    return add(a, -b, alpha)


@rule("rsub", "__rsub__")
def rsub(a: Any, b: Any, alpha: float = 1.0) -> Series:
    """b − alpha a."""
    return add(b, -a, alpha)


@rule("neg")
def negative(a: Series) -> Series:
    """-a."""
    return Series(-a.mid, a.rad, a.radius)


@rule("mul", "multiply", "__mul__", "__rmul__")
def mul(a: Any, b: Any) -> Series:
    """Products of the expansions."""
    if not isinstance(a, Series):
        a, b = b, a
    if not isinstance(b, Series):
        value = constant(b, a)
        return Series(a.mid * value, a.rad * value.abs(), a.radius)
    terms = [
        total([times(a.term(j), b.term(k - j)) for j in range(k + 1)]) for k in range(a.order + 1)
    ]
    return stacked(terms, a)


@rule("div", "divide", "true_divide", "__truediv__")
def div(a: Any, b: Any) -> Series:
    """a / b."""
    if isinstance(b, Series):
        return mul(reciprocal(b), a)
    return mul(a, 1.0 / constant(b, a))


@rule("reciprocal", "reciprocal_")
def reciprocal(a: Series) -> Series:
    """1/a: b_k = −b_0 Σ_{j ≥ 1} a_j b_{k−j}."""
    terms = [inverse_of(a.term(0))]
    for k in range(1, a.order + 1):
        found = total([times(a.term(j), terms[k - j]) for j in range(1, k + 1)])
        terms.append(scaled(times(terms[0], found), -1.0))
    return stacked(terms, a)


@rule("pow", "__pow__")
def power(a: Series, exponent: Any) -> Series:
    """a**p; p a whole number, or any number where a is positive."""
    if isinstance(exponent, Series) or (isinstance(exponent, Tensor) and exponent.numel() != 1):
        raise LegalityError("powers with several exponents, or with ones that are no constants")
    p = float(exponent)
    if p == int(p) and -64 <= p < 0:
        return reciprocal(_whole_power(a, -int(p)))
    if p == int(p) and 0 <= p <= 64:
        return _whole_power(a, int(p))
    m, r = a.term(0)
    if bool((m <= r).any()):
        raise LegalityError(f"it takes what may be zero to the power {p}")
    low, high, mid = (m - r) ** p, (m + r) ** p, m**p
    terms = [(mid, torch.maximum((low - mid).abs(), (high - mid).abs()))]
    inverse = inverse_of(a.term(0))
    for k in range(1, a.order + 1):
        found = total(
            [scaled(times(a.term(j), terms[k - j]), (p * j - (k - j)) / k) for j in range(1, k + 1)]
        )
        terms.append(times(inverse, found))
    return stacked(terms, a)


@rule("square")
def square(a: Series) -> Series:
    """a²."""
    return mul(a, a)


@rule("sqrt")
def square_root(a: Series) -> Series:
    """√a, where a is positive."""
    return power(a, 0.5)


def _whole_power(a: Series, p: int) -> Series:
    if p == 0:
        return add(mul(a, 0.0), 1.0)
    half = _whole_power(a, p // 2) if p > 1 else None
    if half is None:
        return a
    square = mul(half, half)
    return mul(square, a) if p % 2 else square


@rule("mm", "matmul", "__matmul__")
def linear_map(a: Any, matrix: Any) -> Series:
    """Rows times a constant matrix [in, out]."""
    if not isinstance(a, Series) or isinstance(matrix, Series):
        raise LegalityError("a matrix product with a matrix that depends on the variable")
    return Series(a.mid @ matrix, a.rad @ matrix.abs(), a.radius).tightened()


@rule("linear")
def linear(a: Any, weight: Any, bias: Any = None) -> Series:
    """torch.nn.functional.linear."""
    out = linear_map(a, weight.t())
    return out if bias is None else add(out, bias)


@rule("layer_norm")
def layer_norm(
    a: Series, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Series:
    """Over the last axis."""
    if len(shape) != 1:
        raise LegalityError("a layer norm over more than one axis")
    centred = add(a, -_mean(a))
    out = mul(centred, power(add(_mean(mul(centred, centred)), eps), -0.5))
    out = out if weight is None else mul(out, weight)
    return out if bias is None else add(out, bias)


def _mean(a: Series) -> Series:
    return a.map(lambda c: c.mean(-1, keepdim=True))


@rule("where")
def where(mask: Tensor, a: Any, b: Any) -> Series:
    """A choice for each interval."""
    first = a if isinstance(a, Series) else b
    if isinstance(mask, Series) or not isinstance(first, Series):
        raise LegalityError("a choice by what is no comparison")
    a, b = (x if isinstance(x, Series) else add(mul(first, 0.0), x) for x in (a, b))
    mid, rad = torch.where(mask, a.mid, b.mid), torch.where(mask, a.rad, b.rad)
    return Series(mid, rad, first.radius)


EDGE = 1e-6
"""A threshold this near the end of an interval, relative to its radius, counts as the end itself."""


@rule("lt", "__lt__", "le", "__le__")
def below(a: Any, b: Any) -> Tensor:
    """Whether a < b, one answer for each interval.

    Raises:
        Undecided: it changes within an interval, and where is known.
        LegalityError: it changes within an interval, and where is not known.
    """
    difference = a - b if isinstance(a, Series) else add(-b, a)
    m, r = difference.term(0)
    slack = EDGE * r
    yes, no = m + r <= slack, m - r >= -slack
    open_ = ~(yes | no)
    if bool(open_.any()):
        row = int(open_.reshape(open_.shape[0], -1).any(1).nonzero()[0])
        flat = [c[row].reshape(-1) for c in (*difference.mid, *difference.rad[1:])]
        slope, bends = flat[1], flat[2:]
        if slope.numel() != 1 or any(float(c.abs().max()) for c in bends) or not float(slope):
            raise LegalityError("it compares a curved function of the distance with a threshold")
        raise Undecided(row, -float(flat[0] / slope))
    return torch.where(yes & no, m < 0, yes)


@rule("gt", "__gt__", "ge", "__ge__")
def above(a: Any, b: Any) -> Tensor:
    """Whether a > b, one answer for each interval."""
    return ~below(a, b)


@rule("unsqueeze")
def unsqueeze(a: Series, dim: int) -> Series:
    """A new axis."""
    at = dim if dim >= 0 else dim + a.dim() + 1
    return a.map(lambda c: c.unsqueeze(at))


@rule("squeeze")
def squeeze(a: Series, dim: int) -> Series:
    """Without an axis of one entry."""
    at = dim if dim >= 0 else dim + a.dim()
    return a.map(lambda c: c.squeeze(at))


@rule("reshape", "view")
def reshape(a: Series, *shape: Any) -> Series:
    """The same numbers in another shape."""
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return a.map(lambda c: c.reshape(sizes))


@rule("__getitem__")
def columns(a: Series, key: Any) -> Series:
    """``a[:, i:j]``."""
    if not isinstance(key, tuple) or len(key) != 2 or key[0] not in (slice(None), Ellipsis):
        raise LegalityError(f"rows taken out of a function by {key!r}")
    return a.map(lambda c: c[..., key[1]])


@rule("cat")
def cat(parts: Any, dim: int = 0) -> Series:
    """Along the last axis; constants are series that do not change."""
    like = next(p for p in parts if isinstance(p, Series))
    if dim not in (-1, like.dim() - 1) or like.dim() < 2:
        raise LegalityError("rows of several functions put after each other")
    whole = []
    for p in parts:
        if not isinstance(p, Series):
            mid = p.new_zeros(like.order + 1, *p.shape)
            mid[0] = p
            p = Series(mid, torch.zeros_like(mid), like.radius)
        whole.append(p)
    mid, rad = (torch.cat([getattr(p, x) for p in whole], -1) for x in ("mid", "rad"))
    return Series(mid, rad, like.radius)


@rule("to", "clone", "contiguous", "double", "float", "type")
def same(a: Series, *args: Any, **kwargs: Any) -> Series:
    """Copies and conversions: the numbers stay float64."""
    for x in (*args, *kwargs.values()):
        if isinstance(x, torch.dtype) and not x.is_floating_point:
            raise LegalityError(f"it is rounded to {x}")
    return a
