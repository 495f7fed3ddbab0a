"""Functions of Series, by the differential equations that they solve."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from irprune.errors import LegalityError
from irprune.splines.arithmetic import below, mul, stacked, where
from irprune.splines.balls import Term, plus, scaled, times, total
from irprune.splines.series import Series, rule


def _bounded(f: Callable[[Tensor], Tensor], slope: float, a: Term) -> Term:
    """The ball of f for a function whose derivative is at most ``slope``."""
    return f(a[0]), slope * a[1]


@rule("sin")
def sin(a: Series) -> Series:
    """s' = c a'."""
    return _circle(a)[0]


@rule("cos")
def cos(a: Series) -> Series:
    """c' = −s a'."""
    return _circle(a)[1]


def _circle(a: Series) -> tuple[Series, Series]:
    """s' = c a', c' = −s a'."""
    s, c = [_bounded(torch.sin, 1.0, a.term(0))], [_bounded(torch.cos, 1.0, a.term(0))]
    for k in range(1, a.order + 1):
        ds = [scaled(times(a.term(j), c[k - j]), j / k) for j in range(1, k + 1)]
        dc = [scaled(times(a.term(j), s[k - j]), -j / k) for j in range(1, k + 1)]
        s.append(total(ds))
        c.append(total(dc))
    return stacked(s, a), stacked(c, a)


@rule("exp")
def exp(a: Series) -> Series:
    """e' = e a'."""
    m, r = a.term(0)
    terms = [(torch.exp(m), torch.exp(m) * torch.expm1(r))]
    for k in range(1, a.order + 1):
        terms.append(
            total([scaled(times(a.term(j), terms[k - j]), j / k) for j in range(1, k + 1)])
        )
    return stacked(terms, a)


@rule("sigmoid")
def sigmoid(a: Series) -> Series:
    """s' = (s − s²) a'."""
    first = _bounded(torch.sigmoid, 0.25, a.term(0))
    return _self_limiting(a, first, lambda s, square: plus(s, scaled(square, -1.0)), 0.0)


@rule("tanh")
def tanh(a: Series) -> Series:
    """t' = (1 − t²) a'."""
    first = _bounded(torch.tanh, 1.0, a.term(0))
    return _self_limiting(a, first, lambda t, square: scaled(square, -1.0), 1.0)


def _self_limiting(
    a: Series, first: Term, slope: Callable[[Term, Term], Term], offset: float
) -> Series:
    """The solution of y' = (slope(y, y²) + offset) a' with a known value."""
    terms, slopes = [first], []
    for k in range(1, a.order + 1):
        square = total([times(terms[i], terms[k - 1 - i]) for i in range(k)])
        mid, rad = slope(terms[k - 1], square)
        slopes.append((mid + offset, rad) if k == 1 else (mid, rad))
        terms.append(
            total([scaled(times(a.term(j), slopes[k - j]), j / k) for j in range(1, k + 1)])
        )
    return stacked(terms, a)


@rule("silu")
def silu(a: Series, inplace: bool = False) -> Series:
    """a · sigmoid(a)."""
    return mul(a, sigmoid(a))


@rule("softplus")
def softplus(a: Series, beta: float = 1.0, threshold: float = 20.0) -> Series:
    """y' = sigmoid(a) a', and above the threshold, as torch has it, a itself."""
    if beta != 1.0:
        raise LegalityError("softplus with a factor is not known")
    terms = [_bounded(lambda x: torch.logaddexp(x, torch.zeros_like(x)), 1.0, a.term(0))]
    s = sigmoid(a)
    for k in range(1, a.order + 1):
        terms.append(
            total([scaled(times(a.term(j), s.term(k - j)), j / k) for j in range(1, k + 1)])
        )
    return where(below(a, threshold), stacked(terms, a), a)
