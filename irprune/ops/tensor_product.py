"""``e3nn.o3.TensorProduct`` and its subclasses, in every connection mode."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import UnknownForm
from irprune.irreps import BoolMask
from irprune.ops import folds
from irprune.ops.base import Cost, Keep, OpDef, Site, Trait, WeightRows, register_op
from irprune.ops.connection import Path, grids, pair_count, reached, read, weight_mask
from irprune.ops.constants import copy_constants, in_dtype_of
from irprune.ops.elementwise import join_space
from irprune.ops.linear import kept_irreps, segment_masks, type_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler

Needs = tuple[list[BoolMask | None], dict[str, BoolMask]]


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
class TensorProduct(OpDef):
    """x1 ⊗ x2 over a list of paths; weights inside, or as a third operand per row."""

    name = "tensor-product"
    row_wise = True
    targets = ("e3nn.o3._tensor_product._tensor_product.TensorProduct",)
    trait = Trait.EXACT_WITH_FOLD

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

    def infer(self, site: Site) -> Any:
        m = self._module(site)
        a = site.expect(0, str(m.irreps_in1))
        b = site.expect(1, str(m.irreps_in2))
        if len(site.operands) == 3:
            site.expect(2, f"{m.weight_numel}x0e")
        out = type_of(m.irreps_out, a)
        return out.in_space(join_space(site, a, b))

    def axes(self, site: Site) -> dict[str, int]:
        return {"path": len(self._module(site).instructions)}

    def couple(self, site: Site, c: Coupler) -> None:
        m = self._module(site)
        paths = paths_of(m)
        ids1 = [c.operand(0)[s] for s in _unit_slices(m.irreps_in1)]
        ids2 = [c.operand(1)[s] for s in _unit_slices(m.irreps_in2)]
        outs = [c.out[s] for s in _unit_slices(m.irreps_out)]
        axis = c.axis("path")
        writers = [sum(p.out == i for p in paths) for i in range(len(outs))]
        for k, p in enumerate(paths):
            a, b, o, here = ids1[p.i1], ids2[p.i2], outs[p.out], axis[k : k + 1]
            if not len(a) or not len(b) or not len(o):
                continue
            single = writers[p.out] == 1
            if not p.weighted and not single:
                c.fixed(here, "unweighted path that shares its output with others")
            if p.mode in ("uuu", "uuw", "uvu<v", "u<vw"):
                c.same(a, b)
            carrier = {"uvu": a, "uvv": b, "uuu": a}.get(p.mode)
            if carrier is not None and not single:
                c.same(carrier, o)
            elif carrier is not None:
                c.product(o, carrier, np.repeat(here, len(o)))
            elif p.mode in ("uvuv", "uvu<v"):
                u, v, w = grids(p.mode, len(a), len(b), len(o))
                factors = [a[u], b[v]] + ([np.repeat(here, len(u))] if single else [])
                c.product(o[w], *factors)
            if len(site.operands) == 3 and p.weighted:
                u, v, w = grids(p.mode, len(a), len(b), len(o))
                c.product(c.operand(2)[p.weights], a[u], b[v], o[w], np.repeat(here, len(u)))

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        m = self._module(site)
        assert nz[0] is not None and nz[1] is not None
        a, b = segment_masks(m.irreps_in1, nz[0]), segment_masks(m.irreps_in2, nz[1])
        out = [np.zeros(mul, bool) for mul, _ in m.irreps_out]
        for k, p in enumerate(paths_of(m)):
            if axes["path"][k] and len(a[p.i1]) and len(b[p.i2]):
                out[p.out] |= reached(p.mode, a[p.i1], b[p.i2], len(out[p.out]))
        return np.concatenate(out) if out else np.zeros(0, bool)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        m = self._module(site)
        assert nz[0] is not None and nz[1] is not None and need is not None
        a, b = segment_masks(m.irreps_in1, nz[0]), segment_masks(m.irreps_in2, nz[1])
        o = segment_masks(m.irreps_out, need)
        r1, r2 = [np.zeros_like(x) for x in a], [np.zeros_like(x) for x in b]
        weights = np.zeros(m.weight_numel, bool)
        path = np.zeros(len(m.instructions), bool)
        for k, p in enumerate(paths_of(m)):
            if not axes["path"][k] or not len(a[p.i1]) or not len(b[p.i2]):
                continue
            x, y = read(p.mode, a[p.i1], b[p.i2], o[p.out])
            r1[p.i1] |= x
            r2[p.i2] |= y
            path[k] = bool(x.any())
            if p.weighted:
                weights[p.weights] = weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).reshape(-1)
        out: list[BoolMask | None] = [_join(r1), _join(r2)]
        if len(site.operands) == 3:
            out.append(weights)
        return out, {"path": path}

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

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = self._module(site)
        a = segment_masks(m.irreps_in1, keep.operand(0))
        b = segment_masks(m.irreps_in2, keep.operand(1))
        o = segment_masks(m.irreps_out, keep.result)
        params, flops = 0, 0.0
        for k, p in enumerate(paths_of(m)):
            if not keep.axes["path"][k]:
                continue
            n = int(weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).sum())
            d1, d2 = m.irreps_in1[p.i1].ir.dim, m.irreps_in2[p.i2].ir.dim
            d3 = m.irreps_out[p.out].ir.dim
            outer = pair_count(p.mode, a[p.i1], b[p.i2])
            dense = p.mode in ("uvuv", "uvu<v", "u<vw") or (d1 > 1 and d2 > 1)
            couple = 2.0 * d1 * d2 * d3 if dense else float(max(d1, d2))
            flops += outer * couple
            if p.weighted:
                params += n if m.internal_weights else 0
                flops += n * d3 * (2.0 if p.mode in ("uvw", "uuw", "u<vw") else 1.0)
        return Cost(params, flops)

    def weight_rows(self, site: Site) -> WeightRows | None:
        m = self._module(site)
        if not m.internal_weights or not m.weight_numel:
            return None
        one, two, out = (
            [[np.zeros((mul, 0))] for mul, _ in irreps]
            for irreps in (m.irreps_in1, m.irreps_in2, m.irreps_out)
        )
        path = [np.zeros((1, 0)) for _ in m.instructions]
        weight = m.weight.detach().double().cpu().numpy()
        for k, p in enumerate(paths_of(m)):
            if p.weighted:
                effective = weight[p.weights] * p.coefficient
                parts = (one[p.i1], two[p.i2], out[p.out])
                units = grids(p.mode, *(len(part[0]) for part in parts))
                for part, unit in zip(parts, units, strict=True):
                    part.append(_rows(effective, unit, len(part[0])))
                path[k] = effective[None]
        stacked = [[np.hstack(part) for part in parts] for parts in (one, two, out)]
        return WeightRows((stacked[0], stacked[1]), stacked[2], {"path": path})

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        m = self._module(site)
        z = axes["path"]
        paths = paths_of(m)
        x1, x2 = args[0], args[1]
        weight = None
        if m.weight_numel:
            weight = args[2] if len(args) > 2 else m.weight
            scale = torch.cat([z[k].expand(p.numel) for k, p in enumerate(paths) if p.weighted])
            weight = weight * scale.to(weight.dtype)
        out = m(x1, x2, weight)
        if all(p.weighted for p in paths):
            return out
        factor = torch.ones(m.irreps_out.dim, dtype=out.dtype, device=out.device)
        parts = list(factor.split([mul * ir.dim for mul, ir in m.irreps_out]))
        for k, p in enumerate(paths):
            if not p.weighted and sum(q.out == p.out for q in paths) == 1:
                parts[p.out] = parts[p.out] * z[k]
        return out * torch.cat(parts)

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

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = self._module(site)
        x1, x2 = args[0], args[1]
        weight = args[2] if len(args) > 2 else m.weight.detach().expand(x1.shape[0], -1)
        out = [x1.new_zeros(x1.shape[0], mul, ir.dim) for mul, ir in m.irreps_out]
        xs1 = _split(x1, m.irreps_in1)
        xs2 = _split(x2, m.irreps_in2)
        for p in paths_of(m):
            n1, n2, n3 = xs1[p.i1].shape[1], xs2[p.i2].shape[1], out[p.out].shape[1]
            ls = [m.irreps_in1[p.i1].ir.l, m.irreps_in2[p.i2].ir.l, m.irreps_out[p.out].ir.l]
            w3j = o3.wigner_3j(*ls, dtype=torch.float64).to(x1)
            u, v, w = grids(p.mode, n1, n2, n3)
            term = torch.einsum("ijk,zni,znj->znk", w3j, xs1[p.i1][:, u], xs2[p.i2][:, v])
            if p.weighted:
                term = term * weight[:, p.weights].unsqueeze(-1)
            index = torch.from_numpy(w).to(x1.device)
            out[p.out] = out[p.out].index_add(1, index, p.coefficient * term)
        return torch.cat([o.flatten(1) for o in out], dim=1)


@register_op
class TensorSquare(OpDef):
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

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert nz[0] is not None
        return [np.ones_like(nz[0])], {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        return site.module


def _rows(values: Any, units: Any, n: int) -> Any:
    """The values of each unit, in order, as its row [n, most]; zeros fill rows with fewer."""
    order = np.argsort(units, kind="stable")
    counts = np.bincount(units, minlength=n)
    column = np.arange(len(units)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.zeros((n, int(counts.max(initial=0))))
    out[units[order], column] = values[order]
    return out


def _unit_slices(irreps: o3.Irreps) -> list[slice]:
    ends = np.cumsum([0, *_muls(irreps)])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def _join(masks: list[BoolMask]) -> BoolMask:
    return np.concatenate(masks) if masks else np.zeros(0, bool)


def _split(x: Tensor, irreps: o3.Irreps) -> list[Tensor]:
    return [
        x[..., s].reshape(-1, mul, ir.dim)
        for s, (mul, ir) in zip(irreps.slices(), irreps, strict=True)
    ]
