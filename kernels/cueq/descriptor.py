"""The segmented tensor product of a PathSpec: what cuEquivariance's kernels are described by.

cuEquivariance knows segments and paths between them, and no irreps. A descriptor holds the kept paths
of the spec with the coefficients of the spec itself, so that nothing depends on another convention of
Clebsch-Gordan coefficients. Rows are ``ir_mul``. Segments that no kept path touches are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cuequivariance as cue
import numpy as np

from irprune.irreps import Segment
from irprune.pathspec import PathSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 32
"""Segments of a multiple of this many channels are what the kernels of ``uniform_1d`` are made for."""


@dataclass(frozen=True, eq=False)
class Descriptor:
    """A tensor product (weights, features, harmonics) → result, and where its rows come from.

    Operand k of a row of the spec has its numbers at ``columns[k]``: those of the result are written
    there, and the numbers of the result that no path reaches are zero.
    """

    product: cue.SegmentedTensorProduct
    weights: NDArray[np.int64]
    features: NDArray[np.int64]
    harmonics: NDArray[np.int64]
    result: NDArray[np.int64]
    width: int
    """Channels of every segment; 0 where segments are as wide as those of the spec."""

    @property
    def polynomial(self) -> cue.SegmentedPolynomial:
        return cue.SegmentedPolynomial.eval_last_operand(self.product)


def legal_width(spec: PathSpec) -> int:
    """The widest segment into which all kept paths can be cut: their largest common divisor."""
    return math.gcd(*(spec.in1[p.i1].mul for p in spec.paths))


def describe(spec: PathSpec, width: int | None = None) -> Descriptor:
    """The descriptor of a spec.

    Args:
        spec: the convolution; it must have a path.
        width: cut segments into ones of so many channels, one per component, as ``uniform_1d`` wants
            them; None leaves matrices of components and channels, which plain torch runs faster.

    Raises:
        ValueError: a width that does not divide all multiplicities.
    """
    made = cue.SegmentedTensorProduct.from_subscripts("u,iu,j,ku+ijk")
    columns: tuple[list[int], ...] = ([], [], [], [])
    places: tuple[dict[int, int], ...] = ({}, {}, {}, {})
    sides = (spec.in1, spec.in2, spec.out)
    for p in spec.paths:
        mul = spec.in1[p.i1].mul
        found = [made.add_segment(0, (mul,))]
        columns[0].extend(range(p.weight, p.weight + mul))
        for k, (segments, i) in enumerate(zip(sides, (p.i1, p.i2, p.out), strict=True), start=1):
            if i not in places[k]:
                s = segments[i]
                places[k][i] = made.add_segment(k, (s.dim,) if k == 2 else (s.dim, s.mul))
                columns[k].extend(_ir_mul(segments, i))
            found.append(places[k][i])
        shape = (spec.in1[p.i1].dim, spec.in2[p.i2].dim, spec.out[p.out].dim)
        coefficients = np.zeros(shape)
        for a, b, c, value in p.coupling:
            coefficients[a, b, c] = p.coefficient * value
        made.add_path(*found, c=coefficients)
    if width is not None:
        made = made.flatten_coefficient_modes().split_mode("u", width)
    weights, features, harmonics, result = (np.array(c, dtype=np.int64) for c in columns)
    return Descriptor(made, weights, features, harmonics, result, width or 0)


def _ir_mul(segments: Sequence[Segment], i: int) -> list[int]:
    """Places in a ``mul_ir`` row of the numbers of segment ``i``, in the order of ``ir_mul``."""
    start, s = PathSpec.offsets(segments)[i], segments[i]
    return [start + u * s.dim + m for m in range(s.dim) for u in range(s.mul)]
