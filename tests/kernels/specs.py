"""Small PathSpecs and PolySpecs, odd channel counts included."""

from __future__ import annotations

import torch
from e3nn import o3

from irprune.ops.couplings import path_spec
from irprune.specs.poly import PolySpec


def product(first: str, second: str, lmax: int = 2) -> o3.TensorProduct:
    """All uvu paths up to an order, with weights per row."""
    a, b = o3.Irreps(first), o3.Irreps(second)
    out, paths = [], []
    for i, (mul, ir) in enumerate(a):
        for j, (_, other) in enumerate(b):
            for found in ir * other:
                if found.l <= lmax:
                    paths.append((i, j, len(out), "uvu", True, 0.5 + 0.25 * len(out)))
                    out.append((mul, found))
    return o3.TensorProduct(
        a, b, o3.Irreps(out), paths, shared_weights=False, internal_weights=False
    )


def shared_output() -> o3.TensorProduct:
    """Two paths into one segment."""
    return o3.TensorProduct(
        "3x0e+3x1o",
        "0e+1o",
        "3x1o+3x0e",
        [(0, 1, 0, "uvu", True), (1, 0, 0, "uvu", True), (1, 1, 1, "uvu", True)],
        shared_weights=False,
        internal_weights=False,
    )


PRODUCTS = {
    "scalars": ("7x0e", "0e+1o", 1),
    "odd": ("5x0e+3x1o", "0e+1o+2e", 2),
    "wide": ("33x0e+17x1o+9x2e", "0e+1o+2e", 2),
    "order 3": ("4x1o+4x3o", "1o+3o", 3),
}


def spec_named(name: str):
    return path_spec(shared_output() if name == "shared" else product(*PRODUCTS[name]))


def polynomial(channels: int = 5, degree: int = 3) -> PolySpec:
    """Every monomial of four components up to a degree, with random coefficients."""
    import itertools

    g = torch.Generator().manual_seed(3)
    terms = []
    for component in range(4):
        for nu in range(1, degree + 1):
            for factors in itertools.combinations_with_replacement(range(4), nu):
                for path in range(3):
                    if torch.rand((), generator=g) < 0.4:
                        value = float(torch.randn((), generator=g, dtype=torch.float64))
                        terms.append((component, path, factors, value))
    return PolySpec(channels, ((0, 1), (1, -1)), ((0, 1), (1, -1)), 4, tuple(terms))
