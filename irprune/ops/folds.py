"""The factors that slicing must fold into weights, one function each.

e3nn normalises by the number of inputs. A smaller layer has fewer inputs and another factor; the
sliced weights carry old / new, so that the function stays the same. Every fold has a mutation test:
with it replaced by 1 the suite fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def linear_path(old_weight: float, new_weight: float) -> float:
    """``e3nn.o3.Linear``: each path is scaled by (Σ mul_in of the paths into its output)^-1/2."""
    return old_weight / new_weight


def tensor_product_path(old_weight: float, new_weight: float) -> float:
    """``e3nn.o3.TensorProduct``: each path by (dim_out / Σ elements into its output)^1/2."""
    return old_weight / new_weight


def segmented_path(old: float, new: float) -> float:
    """Layers of cuEquivariance: each path by the variance of all paths into its output, ^-1/2."""
    return old / new


def fan_in(old: float, new: float) -> float:
    """``e3nn.nn.FullyConnectedNet``: each layer divides its weight by √h_in; old/new under the root.

    The layer computes x W/√h_in, so W' = W √(new/old) keeps W'/√new = W/√old.
    """
    return math.sqrt(new / old)


def path_coefficients(
    muls1: Sequence[int],
    muls2: Sequence[int],
    out_dims: Sequence[int],
    instructions: Sequence[tuple[int, int, int, str]],
) -> list[float]:
    """e3nn's standard coefficients (component, element) for (in1, in2, out, mode) instructions.

    Source: ``e3nn.o3.TensorProduct.__init__``, irrep_normalization="component",
    path_normalization="element", unit variances.
    """

    def elements(i1: int, i2: int, mode: str) -> float:
        m1, m2 = muls1[i1], muls2[i2]
        return {
            "uvw": m1 * m2, "uvu": m2, "uvv": m1, "uuw": m1, "uuu": 1, "uvuv": 1, "uvu<v": 1,
            "u<vw": m1 * (m2 - 1) // 2,
        }[mode]  # fmt: skip

    total: dict[int, float] = {}
    for i1, i2, io, mode in instructions:
        total[io] = total.get(io, 0.0) + elements(i1, i2, mode)
    return [
        math.sqrt(out_dims[io] / total[io]) if total[io] > 0 else math.sqrt(out_dims[io])
        for _, _, io, _ in instructions
    ]
