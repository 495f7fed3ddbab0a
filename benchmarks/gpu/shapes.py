"""Convolutions with the shapes of real models, full and pruned. Weights are random."""

from __future__ import annotations

from dataclasses import dataclass

from irprune.pathspec import PathSpec

ALIGNED = 32
"""What other kernels want channel counts to be a multiple of."""


@dataclass(frozen=True)
class Layer:
    """A convolution of one model; e3nn's spelling of irreps."""

    name: str
    features: str
    harmonics: str
    results: str
    """Irreps that paths may lead to."""


LAYERS = (
    Layer("sevennet-0", "128x0e+64x1e+32x2e", "0e+1e+2e", "0e+1e+2e"),
    Layer("sevennet-l3i5", "128x0e+64x1e+32x2e+32x3e", "0e+1e+2e+3e", "0e+1e+2e+3e"),
    Layer("mace-small", "128x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    Layer("mace-medium", "128x0e+128x1o", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    Layer("mace-large", "128x0e+128x1o+128x2e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
)
"""Hidden layers; MACE's features there have the orders of its hidden irreps."""

KEEPS = (1.0, 0.75, 0.5, 0.25)
SHAPES = ("aligned", "odd")


def pruned(mul: int, keep: float, shape: str) -> int:
    """Channels that are left: a multiple of 32, or an odd count; all of them where keep is 1."""
    if keep == 1.0:
        return mul
    left = max(1, round(keep * mul))
    return max(ALIGNED, left // ALIGNED * ALIGNED) if shape == "aligned" else left - 1 | 1


def spec_of(layer: Layer, keep: float = 1.0, shape: str = "aligned") -> PathSpec:
    """The convolution of a layer with all paths that its results allow."""
    from irprune.compat import prepare_e3nn

    prepare_e3nn()
    from e3nn import o3

    from irprune.ops.base import load_builtin_ops

    load_builtin_ops()
    from irprune.ops.couplings import path_spec

    first = [(pruned(mul, keep, shape), ir) for mul, ir in o3.Irreps(layer.features)]
    second, wanted = o3.Irreps(layer.harmonics), o3.Irreps(layer.results)
    out, instructions = [], []
    for i, (mul, ir) in enumerate(first):
        for j, (_, other) in enumerate(second):
            for found in ir * other:
                if found in wanted:
                    instructions.append((i, j, len(out), "uvu", True))
                    out.append((mul, found))
    product = o3.TensorProduct(
        o3.Irreps(first), second, o3.Irreps(out), instructions,
        shared_weights=False, internal_weights=False,
    )  # fmt: skip
    return path_spec(product)
