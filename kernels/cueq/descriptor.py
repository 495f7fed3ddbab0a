"""The segmented tensor product of a PathSpec: what cuEquivariance's kernels are described by.

cuEquivariance knows segments and paths between them, and no irreps. A descriptor holds the kept paths
of the spec with the coefficients of the spec itself, so that nothing depends on another convention of
Clebsch-Gordan coefficients. Rows are ``ir_mul``: where those of the spec are too, nothing
has to be moved. Segments that no kept path touches are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cuequivariance as cue
import numpy as np

from irprune.irreps import Layout, Segment
from irprune.specs.path import PathSpec

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
    touched = (
        (spec.in1, sorted({p.i1 for p in spec.paths})),
        (spec.in2, sorted({p.i2 for p in spec.paths})),
        (spec.out, sorted({p.out for p in spec.paths})),
    )
    places: list[dict[int, int]] = []
    for k, (segments, used) in enumerate(touched, start=1):
        shapes = {i: (segments[i].dim, segments[i].mul)[: 1 if k == 2 else 2] for i in used}
        places.append({i: made.add_segment(k, shapes[i]) for i in used})
        for i in used:
            columns[k].extend(_columns(segments, i, spec.layout))
    for p in sorted(spec.paths, key=lambda p: p.weight):
        mul = spec.in1[p.i1].mul
        columns[0].extend(range(p.weight, p.weight + mul))
        ends = zip(places, (p.i1, p.i2, p.out), strict=True)
        found = [made.add_segment(0, (mul,)), *(known[i] for known, i in ends)]
        shape = (spec.in1[p.i1].dim, spec.in2[p.i2].dim, spec.out[p.out].dim)
        coefficients = np.zeros(shape)
        for a, b, c, value in p.coupling:
            coefficients[a, b, c] = p.coefficient * value
        made.add_path(*found, c=coefficients)
    if width is not None:
        made = made.flatten_coefficient_modes().split_mode("u", width)
    weights, features, harmonics, result = (np.array(c, dtype=np.int64) for c in columns)
    return Descriptor(made, weights, features, harmonics, result, width or 0)


def _columns(segments: Sequence[Segment], i: int, layout: Layout) -> list[int]:
    """Places in a row of the numbers of segment ``i``, in the order of ``ir_mul``."""
    start, s = PathSpec.offsets(segments)[i], segments[i]
    if layout is Layout.IR_MUL:
        return list(range(start, start + s.mul * s.dim))
    return [start + u * s.dim + m for m in range(s.dim) for u in range(s.mul)]
