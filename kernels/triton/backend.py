"""The backend of generated Triton kernels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from irprune.backends import Backend, Decline, Kernel, Spec, remember
from irprune.irreps import Layout
from irprune.kernels.operands import refuse_tangents
from irprune.kernels.triton.installed import broken_interpreter, interpreted, missing_triton
from irprune.specs.layout import to_ir_mul, to_mul_ir
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Triton(Backend):
    """Serves convolutions and polynomials on GPUs, and on the CPU in Triton's interpreter.

    Kernels read and write ``ir_mul``; rows of a spec in ``mul_ir`` are converted around them. Sums of
    float16 and bfloat16 are float32.
    """

    name: ClassVar[str] = "triton"
    rank: ClassVar[int] = 20

    def rank_on(self, device: torch.device) -> int:
        # the interpreter is for tests: there it is taken only where it is named
        return self.rank if device.type == "cuda" else -4

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        if device.type == "cpu" and not interpreted():
            return Decline(
                self.name, "runs on GPUs; on the CPU only in its interpreter (TRITON_INTERPRET=1)"
            )
        if device.type not in ("cpu", "cuda"):
            return Decline(self.name, f"runs on CUDA and ROCm, the tensors are on {device.type}")
        if not isinstance(spec, PathSpec | PolySpec):
            return Decline(self.name, f"has no kernels for a {type(spec).__name__}", meant=False)
        if dtype not in DTYPES:
            return Decline(self.name, f"float64, float32, float16 and bfloat16 only, got {dtype}")
        missing = missing_triton() or (broken_interpreter() if device.type == "cpu" else None)
        return None if missing is None else Decline(self.name, missing, loud=True)

    def kernel(self, spec: Spec) -> Kernel:
        if isinstance(spec, PathSpec):
            return _convolution(spec)
        assert isinstance(spec, PolySpec)
        return _polynomial(spec)


def _convolution(spec: PathSpec) -> Kernel:
    from irprune.kernels.triton import ops
    from irprune.kernels.tuner.lookup import chosen

    key, as_it_is = remember(spec), spec.layout is Layout.IR_MUL

    def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        refuse_tangents(x, y, w)
        config = str(chosen(spec, x, y.shape[0]))
        if as_it_is:
            made: Tensor = ops.convolution(x, y, w, edges, key, config)
            return made
        made = ops.convolution(to_ir_mul(x, spec.in1), y, w, edges, key, config)
        return to_mul_ir(made, spec.out)

    return convolution


def _polynomial(spec: PolySpec) -> Kernel:
    from irprune.kernels.triton import polynomial_ops
    from irprune.kernels.tuner.lookup import chosen

    key, as_it_is = remember(spec), spec.layout is Layout.IR_MUL
    inputs, outputs = spec.segments

    def polynomial(x: Tensor, w: Tensor, which: Tensor | None = None) -> Tensor:
        refuse_tangents(x, w)
        if which is None:
            which = torch.arange(x.shape[0], device=x.device)
        which = which.to(torch.int64)
        config = str(chosen(spec, x, x.shape[0]))
        if as_it_is:
            made: Tensor = polynomial_ops.polynomial(x, w, which, key, config)
            return made
        made = polynomial_ops.polynomial(to_ir_mul(x, inputs), w, which, key, config)
        return to_mul_ir(made, outputs)

    return polynomial
