"""Kernels with the shapes of those of real models, full and pruned. Weights are random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.contractions import CONTRACTIONS, Contraction, contraction_spec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.specs.problems import SHAPES as SHAPES_OF_MODELS
from irprune.specs.problems import Shape, product
from irprune.specs.problems import spec_of as convolution

ALIGNED = 32
"""What other kernels want channel counts to be a multiple of."""


@dataclass(frozen=True)
class Layer:
    """A convolution of one model."""

    name: str
    shape: Shape


LAYERS = tuple(Layer(name, shape) for name, shape in SHAPES_OF_MODELS.items())

Item = Layer | Contraction
LAST = "sevennet-l3i5"
"""Its kernels take the longest to compile: what has not begun when the time ends is better its own."""
ITEMS: tuple[Item, ...] = (
    *(layer for layer in LAYERS if layer.name != LAST),
    *CONTRACTIONS,
    *(layer for layer in LAYERS if layer.name == LAST),
)
"""Whatever kernels are checked and timed on."""

KEEPS = (1.0, 0.75, 0.5, 0.25)
SHAPES = ("aligned", "odd")


def pruned(mul: int, keep: float, shape: str) -> int:
    """Channels that are left: a multiple of 32, or an odd count; all of them where keep is 1."""
    if keep == 1.0:
        return mul
    left = max(1, round(keep * mul))
    return max(ALIGNED, left // ALIGNED * ALIGNED) if shape == "aligned" else left - 1 | 1


def product_of(layer: Layer, keep: float = 1.0, shape: str = "aligned") -> Any:
    """The same convolution as e3nn's own module."""
    from irprune.compat import prepare_e3nn

    prepare_e3nn()
    return product(layer.shape, lambda mul: pruned(mul, keep, shape))


def spec_of(layer: Layer, keep: float = 1.0, shape: str = "aligned") -> PathSpec:
    """The convolution of a layer with all paths that its results allow."""
    from irprune.compat import prepare_e3nn

    prepare_e3nn()
    from irprune.ops.base import load_builtin_ops

    load_builtin_ops()
    return convolution(layer.shape, lambda mul: pruned(mul, keep, shape))


def kernel_spec(item: Item, keep: float = 1.0, shape: str = "aligned") -> PathSpec | PolySpec:
    """The convolution of a layer, or the polynomial of a contraction."""
    if isinstance(item, Layer):
        return spec_of(item, keep, shape)
    return contraction_spec(item, pruned(item.channels, keep, shape))
