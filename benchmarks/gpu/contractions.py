"""Symmetric contractions with the shapes of MACE's, without MACE: all polynomials that it can learn.

Of correlation order 3 over the orders 0 to 3: every coupling of up to three factors to an output, with
intermediate orders up to 3, of which those that span the same symmetric polynomials are one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from irprune.specs.poly import PolySpec

if TYPE_CHECKING:
    from irprune.families.mace.contraction import Terms

Irrep = tuple[int, int]
"""(l, p)."""
CORRELATION = 3
HIGHEST = 3
INPUTS: tuple[Irrep, ...] = ((0, 1), (1, -1), (2, 1), (3, -1))


@dataclass(frozen=True)
class Contraction:
    """A contraction of one model."""

    name: str
    outputs: tuple[Irrep, ...]
    inputs: tuple[Irrep, ...] = INPUTS
    channels: int = 128


CONTRACTIONS = (
    Contraction("mace-small-contraction", ((0, 1),)),
    Contraction("mace-medium-contraction", ((0, 1), (1, -1))),
    Contraction("mace-large-contraction", ((0, 1), (1, -1), (2, 1))),
)


def contraction_spec(given: Contraction, channels: int) -> PolySpec:
    """Its polynomial with so many channels."""
    return _with_channels(given.inputs, given.outputs, channels)


@functools.lru_cache(maxsize=64)
def _with_channels(
    inputs: tuple[Irrep, ...], outputs: tuple[Irrep, ...], channels: int
) -> PolySpec:
    from irprune.families.mace.symmetric import polynomial

    parts = [_terms(inputs, out) for out in outputs]
    return replace(polynomial(parts, inputs)[0], channels=channels)


@functools.lru_cache(maxsize=16)
def _terms(inputs: tuple[Irrep, ...], out: Irrep) -> Terms:
    """One output order with a channel, its redundant paths removed."""
    from irprune.families.mace.contraction import Terms
    from irprune.families.mace.symmetric import reduce

    u = {nu: couplings(inputs, out, nu) for nu in range(1, CORRELATION + 1)}
    u = {nu: t for nu, t in u.items() if t.shape[-1]}
    w = {nu: torch.ones(1, t.shape[-1], 1, dtype=t.dtype) for nu, t in u.items()}
    return reduce(Terms(*out, u, w), f"the contraction to {out}")


def couplings(inputs: tuple[Irrep, ...], out: Irrep, nu: int) -> Tensor:
    """Every coupling of ``nu`` inputs to an output: [2L + 1, D, …, D, couplings] in float64."""
    dim = sum(2 * order + 1 for order, _ in inputs)
    slots = {i: _slot(inputs, i, dim) for i in range(len(inputs))}
    found: list[tuple[Irrep, Tensor]] = [(inputs[i], slot) for i, slot in slots.items()]
    for _ in range(nu - 1):
        found = [
            (made, torch.einsum("a...,bd,abm->m...d", u, slots[i], _w3j(a[0], b[0], made[0])))
            for a, u in found
            for i, b in enumerate(inputs)
            for made in _products(a, b)
        ]
    kept = [u for ir, u in found if ir == out]
    empty = torch.zeros(2 * out[0] + 1, *[dim] * nu, 0, dtype=torch.float64)
    return torch.stack(kept, dim=-1) if kept else empty


def _slot(inputs: tuple[Irrep, ...], i: int, dim: int) -> Tensor:
    """[2l + 1, D]: the components of one input among all."""
    start = sum(2 * order + 1 for order, _ in inputs[:i])
    return torch.eye(dim, dtype=torch.float64)[start : start + 2 * inputs[i][0] + 1]


def _products(a: Irrep, b: Irrep) -> list[Irrep]:
    orders = range(abs(a[0] - b[0]), min(a[0] + b[0], HIGHEST) + 1)
    return [(order, a[1] * b[1]) for order in orders]


def _w3j(a: int, b: int, c: int) -> Tensor:
    from e3nn import o3

    return o3.wigner_3j(a, b, c, dtype=torch.float64)
