"""The backend of generated C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from irprune.backends import Backend, Decline, Kernel, Spec, remember
from irprune.irreps import Layout
from irprune.kernels.cpu.compiler import CompilerError, find_compiler, library
from irprune.kernels.operands import refuse_tangents
from irprune.specs.linear import LinearSpec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.specs.table import TableSpec


class Cpu(Backend):
    """Serves every spec on the CPU in float32 and float64, where a C++ compiler is found."""

    name: ClassVar[str] = "cpu"
    rank: ClassVar[int] = 10

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        if device.type != "cpu":
            return Decline(self.name, f"runs on the CPU, the tensors are on {device.type}")
        if dtype not in (torch.float32, torch.float64):
            return Decline(self.name, f"float32 and float64 only, got {dtype}")
        if not isinstance(spec, TableSpec) and spec.layout is Layout.IR_MUL:
            return Decline(
                self.name, "reads rows in mul_ir; run lay-out{layout=mul_ir} for the CPU", loud=True
            )
        if isinstance(spec, LinearSpec) and all(p.dim == 1 for p in spec.products):
            return Decline(
                self.name, "of scalars alone, torch's own matrix product is faster", meant=False
            )
        if find_compiler() is None:
            return Decline(self.name, "no C++ compiler on the path and none in CXX", loud=True)
        try:
            library(PROBE)
        except CompilerError as error:
            return Decline(self.name, str(error), loud=True)
        return None

    def kernel(self, spec: Spec) -> Kernel:
        from irprune.kernels.cpu import linear_ops, ops, table_ops

        key = remember(spec)
        if isinstance(spec, LinearSpec):
            linear_ops.prepare(key)

        def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
            refuse_tangents(x, y, w)
            made: Tensor = ops.convolution(x, y, w, edges, key)
            return made

        def polynomial(x: Tensor, w: Tensor, which: Tensor | None = None) -> Tensor:
            refuse_tangents(x, w)
            w = w if which is None else w.index_select(0, which)
            made: Tensor = ops.polynomial(x, w, key)
            return made

        def table(r: Tensor, coefficients: Tensor, which: Tensor | None = None) -> Tensor:
            refuse_tangents(r, coefficients)
            made: Tensor = table_ops.table_rows(r, coefficients, which, key, 0)
            return made

        def linear(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
            refuse_tangents(x, *weights)
            return linear_ops.linear(x, weights, key)

        kernels: dict[type, Kernel] = {
            PathSpec: convolution,
            PolySpec: polynomial,
            TableSpec: table,
            LinearSpec: linear,
        }
        return kernels[type(spec)]


PROBE = 'extern "C" int probe() { int n = 0;\n#pragma omp parallel\n{ n = 1; }\nreturn n; }\n'
"""The smallest program: shows whether the compiler that is there works."""
