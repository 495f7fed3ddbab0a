"""Hermite interpolation by polynomials of odd degree: coefficients, and how far they can be off.

On an interval of width h, the polynomial of degree 2m − 1 that has the values and the first m − 1
derivatives of f at both ends differs from f by at most M h^{2m} / (2^{2m} (2m)!), where M bounds the
2m-th derivative. Its slope differs by at most (√3/216) M h³ for cubics and (√5/30000) M h⁵ for
quintics (Birkhoff and Priver, Hermite interpolation errors for derivatives, J. Math. Phys. 46, 440
(1967); both are attained by f = x^{2m}).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from irprune.errors import UsageError

DEGREES = (3, 5)
_SLOPE = {3: math.sqrt(3.0) / 216.0, 5: math.sqrt(5.0) / 30000.0}


def check_degree(degree: int) -> None:
    """
    Raises:
        UsageError: a degree without a proven bound.
    """
    if degree not in DEGREES:
        raise UsageError(f"splines of degree {degree} are not known; known are 3 and 5")


def coefficients(left: Tensor, right: Tensor) -> Tensor:
    """Powers of t in [0, 1] from what is known at both ends.

    Args:
        left: [m, …], value, h f′, h² f″ / 2, … at t = 0.
        right: [m, …], the same at t = 1.

    Returns:
        [2m, …], the coefficient of each power of t.
    """
    m = left.shape[0]
    at = torch.zeros(2 * m, 2 * m, dtype=torch.float64)
    for k in range(m):  # k-th Taylor coefficient of t^p at 0 and at 1
        at[k, k] = 1.0
        for p in range(2 * m):
            at[m + k, p] = float(math.comb(p, k))
    known = torch.cat([left, right]).reshape(2 * m, -1)
    return torch.linalg.solve(at, known).reshape(2 * m, *left.shape[1:])


def value_error(degree: int, h: float, derivative: float) -> float:
    """Bound on |f − spline| from one on the derivative of order ``degree + 1``."""
    n = degree + 1
    return derivative * (h / 2) ** n / math.factorial(n)


def slope_error(degree: int, h: float, derivative: float) -> float:
    """Bound on |f′ − spline′|."""
    return _SLOPE[degree] * derivative * h**degree
