"""The symmetric part of a contraction: a basis without redundancy, and the polynomial that it is.

The ν inputs of a contraction are the same tensor, so only the coefficient of each monomial counts.
For ν = 3 into scalars 23 paths span 8 polynomials.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import qr
from torch import Tensor

from irprune.errors import ExactnessError
from irprune.families.mace.contraction import RESIDUAL, SAME_SPACE, Terms
from irprune.specs.poly import PolySpec, Term

Floats = NDArray[np.float64]
ROUNDING = 1e-14
"""Entries of a basis below it are the rounding of zeros."""


def monomials(dim: int, nu: int) -> list[tuple[int, ...]]:
    """All products of ``nu`` of ``dim`` components, factors in ascending order."""
    return list(itertools.combinations_with_replacement(range(dim), nu))


def coefficients(u: Tensor) -> Floats:
    """Coefficient of every monomial in every path: [2L+1, D, …, D, P] → [(2L+1)·monomials, P]."""
    nu, dim = u.dim() - 2, int(u.shape[1])
    values = u.detach().double().cpu().numpy()
    flat = values.reshape(values.shape[0], -1, values.shape[-1])
    number = {a: i for i, a in enumerate(monomials(dim, nu))}
    place = [number[tuple(sorted(a))] for a in itertools.product(range(dim), repeat=nu)]
    out = np.zeros((values.shape[0], len(number), values.shape[-1]))
    where: Any = (slice(None), place)
    np.add.at(out, where, flat)
    return out.reshape(-1, values.shape[-1])


def tensor_of(matrix: Floats, width: int, dim: int, nu: int) -> Floats:
    """The symmetric U with these coefficients, the inverse of ``coefficients``."""
    table = matrix.reshape(width, -1, matrix.shape[-1])
    out = np.zeros((width, *[dim] * nu, matrix.shape[-1]))
    for i, factors in enumerate(monomials(dim, nu)):
        orders = math.factorial(nu) / math.prod(map(math.factorial, Counter(factors).values()))
        for order in set(itertools.permutations(factors)):
            where: Any = (slice(None), *order)
            out[where] = table[:, i] / orders
    return out


def basis(matrix: Floats) -> tuple[Floats, Floats]:
    """Columns that span those of ``matrix``, and the factors: matrix = columns @ factors.

    Each new column has the coefficient 1 at a monomial where all others have 0, so that the factors
    are rows of ``matrix`` and few entries are non-zero.
    """
    values = np.linalg.svd(matrix, compute_uv=False)
    rank = int((values > SAME_SPACE * values[:1]).sum()) if values.size and values[0] else 0
    if not rank:
        return matrix[:, :1] * 0, np.zeros((1, matrix.shape[1]))
    columns = qr(matrix, mode="r", pivoting=True)[1][:rank]
    picked = matrix[:, columns]
    rows = qr(picked.T, mode="r", pivoting=True)[1][:rank]
    made = picked @ np.linalg.inv(picked[rows])
    made[np.abs(made) < ROUNDING * np.abs(made).max()] = 0.0
    return made, matrix[rows]


def reduce(terms: Terms, where: str) -> Terms:
    """The same polynomial over bases without redundancy; weights by exact projection.

    Raises:
        ExactnessError: the redundant part is not zero, as where U was rounded to float32 and is
            stored in float64; names ν, L and the residual.
    """
    u, w = {}, {}
    for nu, old in terms.u.items():
        matrix = coefficients(old)
        made, factors = basis(matrix)
        size = float(np.abs(matrix).max())
        residual = float(np.abs(made @ factors - matrix).max()) / size if size else 0.0
        if residual > RESIDUAL[old.dtype]:
            raise ExactnessError(
                f"{where}: correlation order {nu}, output {terms.ir}: its {matrix.shape[1]} paths"
                f" span {made.shape[1]} polynomials only up to {residual:.1e} (allowed"
                f" {RESIDUAL[old.dtype]:.0e})"
            )
        u[nu] = torch.from_numpy(tensor_of(made, int(old.shape[0]), int(old.shape[1]), nu)).to(old)
        weight = terms.w[nu]
        mixed = torch.einsum("qp,epk->eqk", torch.from_numpy(factors).to(weight.device),
                             weight.double())  # fmt: skip
        w[nu] = mixed.to(weight.dtype)
    return Terms(terms.l, terms.p, u, w)


def polynomial(
    parts: Sequence[Terms], inputs: tuple[tuple[int, int], ...]
) -> tuple[PolySpec, Tensor]:
    """Spec and weights [elements, paths, channels] of a whole contraction."""
    terms: list[Term] = []
    weights: list[Tensor] = []
    component = 0
    for part in parts:
        for nu, u in sorted(part.u.items()):
            if not bool(u.any()):
                continue
            table = coefficients(u).reshape(int(u.shape[0]), -1, u.shape[-1])
            names = monomials(int(u.shape[1]), nu)
            offset = sum(int(w.shape[1]) for w in weights)
            for m, i, p in np.argwhere(np.abs(table) > ROUNDING * np.abs(table).max()):
                terms.append((component + int(m), offset + int(p), names[i], float(table[m, i, p])))
            weights.append(part.w[nu])
        component += 2 * part.l + 1
    weight = torch.cat(weights, dim=1)
    outputs = tuple((t.l, t.p) for t in parts)
    return PolySpec(
        int(weight.shape[2]), inputs, outputs, int(weight.shape[1]), tuple(terms)
    ), weight
