"""``e3nn.o3.TensorProduct`` and its subclasses, in every connection mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType
from irprune.ops import folds
from irprune.ops.base import Keep, Site, register_op
from irprune.ops.connection import Path, weight_mask
from irprune.ops.constants import copy_constants, in_dtype_of
from irprune.ops.frozen import Frozen
from irprune.ops.linear import kept_irreps, segment_masks, type_of
from irprune.ops.path_product import PathProduct, Product

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def paths_of(m: o3.TensorProduct) -> list[Path]:
    """The instructions of a module, with the offsets of their weights."""
    out, offset = [], 0
    for i in m.instructions:
        path = Path(
            i.i_in1, i.i_in2, i.i_out, i.connection_mode, bool(i.has_weight),
            float(i.path_weight), tuple(int(x) for x in i.path_shape), offset,
        )  # fmt: skip
        offset += path.numel
        out.append(path)
    return out


def _muls(irreps: o3.Irreps) -> list[int]:
    return [mul for mul, _ in irreps]


def standard_coefficients(m: o3.TensorProduct) -> list[float]:
    """What e3nn's default normalisation gives the paths of a module."""
    return folds.path_coefficients(
        _muls(m.irreps_in1),
        _muls(m.irreps_in2),
        [ir.dim for _, ir in m.irreps_out],
        [(i.i_in1, i.i_in2, i.i_out, i.connection_mode) for i in m.instructions],
    )


def is_standard(m: o3.TensorProduct) -> bool:
    """Whether e3nn's default normalisation gives exactly the coefficients of ``m``."""
    return bool(
        np.allclose(
            standard_coefficients(m), [i.path_weight for i in m.instructions], rtol=1e-14, atol=0
        )
    )


def make(
    irreps: tuple[Any, Any, Any],
    paths: Sequence[tuple[int, int, int, str, bool]],
    coefficients: Sequence[float] | None,
    internal: bool,
    shared: bool,
) -> o3.TensorProduct:
    """A tensor product with e3nn's own normalisation, or with the coefficients given."""
    if coefficients is None:
        instructions: list[tuple[Any, ...]] = [(*p, 1.0) for p in paths]
        norm = ("component", "element")
    else:
        instructions = [(*p, c * c) for p, c in zip(paths, coefficients, strict=True)]
        norm = ("none", "none")
    return o3.TensorProduct(
        *irreps,
        instructions,
        irrep_normalization=norm[0],
        path_normalization=norm[1],
        internal_weights=internal and any(p[4] for p in paths),
        shared_weights=shared,
    )


@register_op
class TensorProduct(PathProduct):
    """x1 ⊗ x2 over a list of paths; weights inside, or as a third operand per row."""

    name = "tensor-product"
    targets = ("e3nn.o3._tensor_product._tensor_product.TensorProduct",)

    def _module(self, site: Site) -> o3.TensorProduct:
        m = site.module
        assert isinstance(m, o3.TensorProduct)
        expected = 2 if m.internal_weights or m.weight_numel == 0 else 3
        if len(site.operands) != expected or (expected == 3 and m.shared_weights):
            raise UnknownForm(
                f"{site.where}: a tensor product with {m.weight_numel} weights"
                f" (internal: {m.internal_weights}, shared: {m.shared_weights}) was called with"
                f" {len(site.operands)} operands; known are internal weights, or weights per row"
            )
        return m

    def product(self, site: Site) -> Product:
        m = self._module(site)
        in1, in2, out = (
            IrrepsType.of((mul, ir.l, ir.p) for mul, ir in irreps)
            for irreps in (m.irreps_in1, m.irreps_in2, m.irreps_out)
        )
        return Product(in1, in2, out, tuple(paths_of(m)), bool(m.internal_weights))

    def weight(self, module: nn.Module) -> Tensor:
        assert isinstance(module, o3.TensorProduct)
        made: Tensor = module.weight
        return made

    def run(self, module: nn.Module, x1: Tensor, x2: Tensor, weight: Tensor | None) -> Tensor:
        made: Tensor = module(x1, x2, weight)
        return made

    def couplings(self, module: nn.Module) -> Sequence[Tensor]:
        assert isinstance(module, o3.TensorProduct)
        orders = (
            (
                module.irreps_in1[p.i1].ir.l,
                module.irreps_in2[p.i2].ir.l,
                module.irreps_out[p.out].ir.l,
            )
            for p in paths_of(module)
        )
        tables = (o3.wigner_3j(*ls, dtype=torch.float64) for ls in orders)
        return [t * p.coefficient for t, p in zip(tables, paths_of(module), strict=True)]

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = self._module(site)
        a = segment_masks(m.irreps_in1, keep.operand(0))
        b = segment_masks(m.irreps_in2, keep.operand(1))
        o = segment_masks(m.irreps_out, keep.result)
        irreps1, new1 = kept_irreps(m.irreps_in1, a)
        irreps2, new2 = kept_irreps(m.irreps_in2, b)
        irreps3, new3 = kept_irreps(m.irreps_out, o)
        paths = [
            p
            for k, p in enumerate(paths_of(m))
            if keep.axes["path"][k] and p.i1 in new1 and p.i2 in new2 and p.out in new3
        ]
        kept = [(new1[p.i1], new2[p.i2], new3[p.out], p.mode, p.weighted) for p in paths]
        old = [p.coefficient for p in paths]
        foldable = m.internal_weights and all(p.weighted for p in paths)
        irreps = (irreps1, irreps2, irreps3)
        with in_dtype_of(m):
            new = folds.path_coefficients(
                _muls(irreps1),
                _muls(irreps2),
                [ir.dim for _, ir in irreps3],
                [k[:4] for k in kept],
            )
            standard = is_standard(m) and (foldable or np.allclose(old, new, rtol=1e-14, atol=0))
            small = make(
                irreps, kept, None if standard else old, m.internal_weights, m.shared_weights
            )
        copy_constants(m, small)
        if m.internal_weights and small.weight_numel:
            parts = []
            for p, q in zip(paths, paths_of(small), strict=True):
                if p.weighted:
                    w = m.weight.detach()[p.weights]
                    mask = weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).reshape(-1)
                    w = w[torch.from_numpy(mask).to(w.device)]
                    parts.append(w * folds.tensor_product_path(p.coefficient, q.coefficient))
            with torch.no_grad():
                small.weight.copy_(torch.cat(parts))
        small.to(m.output_mask.device)
        return small

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, o3.TensorProduct)
        return {
            "irreps": [str(module.irreps_in1), str(module.irreps_in2), str(module.irreps_out)],
            "paths": [[p.i1, p.i2, p.out, p.mode, p.weighted] for p in paths_of(module)],
            "coefficients": None
            if is_standard(module)
            else [p.coefficient for p in paths_of(module)],
            "internal": bool(module.internal_weights),
            "shared": bool(module.shared_weights),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        paths = [(a, b, o, mode, w) for a, b, o, mode, w in spec["paths"]]
        irreps = tuple(spec["irreps"])
        return make(irreps, paths, spec["coefficients"], spec["internal"], spec["shared"])


@register_op
class TensorSquare(Frozen):
    """``e3nn.o3.TensorSquare``: typed, but frozen; both factors are the same value."""

    name = "tensor-square"
    row_wise = True
    targets = ("e3nn.o3._tensor_product._sub.TensorSquare",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, o3.TensorSquare)
        return type_of(m.irreps_out, site.expect(0, str(m.irreps_in)))

    def couple(self, site: Site, c: Coupler) -> None:
        c.fixed(c.operand(0), "operand of a tensor square")
        c.fixed(c.out, "result of a tensor square")
