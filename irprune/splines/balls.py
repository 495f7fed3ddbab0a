"""Balls: numbers m ± ρ, and the balls that hold their sums and products."""

from __future__ import annotations

import torch
from torch import Tensor

from irprune.errors import LegalityError

Term = tuple[Tensor, Tensor]
"""Middle and radius of one coefficient."""


def times(a: Term, b: Term) -> Term:
    """The ball of all products."""
    return a[0] * b[0], a[0].abs() * b[1] + a[1] * b[0].abs() + a[1] * b[1]


def plus(a: Term, b: Term) -> Term:
    """The ball of all sums."""
    return a[0] + b[0], a[1] + b[1]


def scaled(a: Term, factor: float) -> Term:
    """The ball of all multiples."""
    return a[0] * factor, a[1] * abs(factor)


def total(terms: list[Term]) -> Term:
    """The ball of all sums of several."""
    out = terms[0]
    for t in terms[1:]:
        out = plus(out, t)
    return out


def inverse_of(a: Term) -> Term:
    """The ball of 1/x.

    Raises:
        LegalityError: the ball of x holds zero.
    """
    m, r = a
    if bool((m.abs() <= r).any()):
        raise LegalityError("it divides by what may be zero")
    return 1.0 / m, r / (m.abs() * (m.abs() - r))


def stack(terms: list[Term]) -> Term:
    """Middles and radii of coefficients, each as one tensor."""
    return torch.stack([t[0] for t in terms]), torch.stack([t[1] for t in terms])
