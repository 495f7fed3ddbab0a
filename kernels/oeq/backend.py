"""The backend that hands convolutions to OpenEquivariance.

OpenEquivariance has Clebsch-Gordan coefficients of its own. A path of a spec is served where its
coefficients are a multiple of those; the factor goes into the weights.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from irprune.backends import Backend, Decline, Kernel, Spec
from irprune.edges import unpack
from irprune.irreps import Layout
from irprune.specs.path import PathSpec, SpecPath

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
EQUAL = 1e-6
"""Largest difference of coefficients, of the largest: checkpoints hold them in float32."""


class OpenEquivariance(Backend):
    """Serves convolutions on CUDA and ROCm in float32 and float64. It has never been run here."""

    name: ClassVar[str] = "openequivariance"
    rank: ClassVar[int] = 6

    def rank_on(self, device: torch.device) -> int:
        return self.rank if device.type == "cuda" else -3

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        if device.type != "cuda":
            return Decline(self.name, f"runs on CUDA and ROCm, the tensors are on {device.type}")
        if not isinstance(spec, PathSpec):
            return Decline(
                self.name, f"serves convolutions, not a {type(spec).__name__}", meant=False
            )
        if spec.layout is Layout.IR_MUL:
            return Decline(self.name, "is given rows in mul_ir here; the spec has them in ir_mul")
        if dtype not in DTYPES:
            return Decline(self.name, f"float32 and float64 only, got {dtype}")
        reason = missing() or _foreign(spec)
        return None if reason is None else Decline(self.name, reason)

    def kernel(self, spec: Spec) -> Kernel:
        assert isinstance(spec, PathSpec)
        made: dict[tuple[torch.device, torch.dtype], _Convolution] = {}

        def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
            where = (x.device, x.dtype)
            if where not in made:
                made[where] = _Convolution(spec, *where)
            return made[where](x, y, w, edges)

        return convolution


@functools.cache
def missing() -> str | None:
    """Why the package cannot be used; None if it can."""
    if importlib.util.find_spec("openequivariance") is None:
        return "the package openequivariance is not installed (pip install openequivariance)"
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    try:
        import openequivariance  # noqa: F401
    except Exception as error:
        return f"openequivariance cannot be imported: {type(error).__name__}: {error}"
    return None


def _foreign(spec: PathSpec) -> str | None:
    """A path whose coefficients are no multiple of OpenEquivariance's own; None without any."""
    if not spec.paths:
        return "cannot describe a convolution without paths"
    for p in spec.paths:
        if factor(spec, p) is None:
            return f"the coefficients of path {p.i1} x {p.i2} -> {p.out} are no multiple of its own"
    return None


def factor(spec: PathSpec, path: SpecPath) -> float | None:
    """The coefficients of a path over OpenEquivariance's; None where they are no multiple."""
    from openequivariance.core.e3nn_lite import wigner_3j

    shape = (spec.in1[path.i1], spec.in2[path.i2], spec.out[path.out])
    mine = np.zeros([s.dim for s in shape])
    for a, b, c, value in path.coupling:
        mine[a, b, c] = path.coefficient * value
    own = np.asarray(wigner_3j(*(s.l for s in shape)))
    ratio = float((mine * own).sum() / (own * own).sum())
    close = np.abs(mine - ratio * own).max() <= EQUAL * np.abs(mine).max()
    return ratio if close and ratio else None


class _Convolution:
    """``TensorProductConv`` with the weights in its order and the factors in them."""

    def __init__(self, spec: PathSpec, device: torch.device, dtype: torch.dtype) -> None:
        import openequivariance as oeq

        kind = DTYPES[dtype]
        sides = ("+".join(map(str, part)) for part in (spec.in1, spec.in2, spec.out))
        problem = oeq.TPProblem(
            *(oeq.Irreps(side) for side in sides),
            [(p.i1, p.i2, p.out, "uvu", True) for p in spec.paths],
            irrep_normalization="none",
            path_normalization="none",
            internal_weights=False,
            shared_weights=False,
            irrep_dtype=kind,
            weight_dtype=kind,
        )
        self.product: Any = oeq.TensorProductConv(problem, torch_op=True, deterministic=False)
        muls = [spec.in1[p.i1].mul for p in spec.paths]
        columns = [
            k for p, n in zip(spec.paths, muls, strict=True) for k in range(p.weight, p.weight + n)
        ]
        factors = [f for p, n in zip(spec.paths, muls, strict=True) for f in [factor(spec, p)] * n]
        self.columns = torch.tensor(columns, device=device)
        self.factors = torch.tensor(factors, device=device, dtype=dtype)

    def __call__(self, x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        lists = unpack(edges, x.shape[0])
        rows = (w.index_select(1, self.columns) * self.factors).index_select(0, lists.row)
        weights = self.product.reorder_weights_from_e3nn(rows, has_batch_dim=True)
        made: Tensor = self.product(x, y, weights, lists.receiver, lists.sender)
        return made
