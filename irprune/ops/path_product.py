"""PathProduct: the base of tensor products over a list of paths, of whatever library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import Cost, Keep, Needs, OpDef, Site, Trait, WeightRows
from irprune.ops.connection import Path, grids, pair_count, reached, read, weight_mask
from irprune.ops.operands import join_space

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@dataclass(frozen=True)
class Product:
    """The operands, the result and the paths of a tensor product."""

    in1: IrrepsType
    in2: IrrepsType
    out: IrrepsType
    paths: tuple[Path, ...]
    internal: bool
    """Whether the weights are parameters of the module."""

    @property
    def n_weights(self) -> int:
        return sum(p.numel for p in self.paths)


class PathProduct(OpDef):
    """x1 ⊗ x2 over a list of paths; weights inside, or as a third operand per row.

    A subclass says what the paths of its modules are, how one runs with other weights, and how it
    shrinks.
    """

    row_wise = True
    trait = Trait.EXACT_WITH_FOLD

    @abstractmethod
    def product(self, site: Site) -> Product:
        """What the call computes.

        Raises:
            UnknownForm: a form of the call that is not known.
        """

    @abstractmethod
    def weight(self, module: nn.Module) -> Tensor:
        """The weights inside a module, flat, [n_weights]."""

    @abstractmethod
    def run(self, module: nn.Module, x1: Tensor, x2: Tensor, weight: Tensor | None) -> Tensor:
        """The module with these weights, [n_weights] or [rows, n_weights]."""

    @abstractmethod
    def couplings(self, module: nn.Module) -> Sequence[Tensor]:
        """For each path its coefficients [2l1+1, 2l2+1, 2l+1], normalisation included."""

    def infer(self, site: Site) -> Any:
        p = self.product(site)
        a, b = site.expect_type(0, p.in1), site.expect_type(1, p.in2)
        if len(site.operands) == 3:
            site.expect(2, f"{p.n_weights}x0e")
        return p.out.in_space(join_space(site, a, b))

    def axes(self, site: Site) -> dict[str, int]:
        return {"path": len(self.product(site).paths)}

    def couple(self, site: Site, c: Coupler) -> None:
        t = self.product(site)
        ids1, ids2, outs = (
            [ids[kind.units(i)] for i in range(len(kind.segments))]
            for kind, ids in ((t.in1, c.operand(0)), (t.in2, c.operand(1)), (t.out, c.out))
        )
        axis = c.axis("path")
        writers = [sum(p.out == i for p in t.paths) for i in range(len(outs))]
        for k, p in enumerate(t.paths):
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
        t = self.product(site)
        assert nz[0] is not None and nz[1] is not None
        a, b = t.in1.split(nz[0]), t.in2.split(nz[1])
        out = [np.zeros(s.mul, bool) for s in t.out]
        for k, p in enumerate(t.paths):
            if axes["path"][k] and len(a[p.i1]) and len(b[p.i2]):
                out[p.out] |= reached(p.mode, a[p.i1], b[p.i2], len(out[p.out]))
        return joined(out)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        t = self.product(site)
        assert nz[0] is not None and nz[1] is not None and need is not None
        a, b, o = t.in1.split(nz[0]), t.in2.split(nz[1]), t.out.split(need)
        r1, r2 = [np.zeros_like(x) for x in a], [np.zeros_like(x) for x in b]
        weights = np.zeros(t.n_weights, bool)
        path = np.zeros(len(t.paths), bool)
        for k, p in enumerate(t.paths):
            if not axes["path"][k] or not len(a[p.i1]) or not len(b[p.i2]):
                continue
            x, y = read(p.mode, a[p.i1], b[p.i2], o[p.out])
            r1[p.i1] |= x
            r2[p.i2] |= y
            path[k] = bool(x.any())
            if p.weighted:
                weights[p.weights] = weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).reshape(-1)
        out: list[BoolMask | None] = [joined(r1), joined(r2)]
        if len(site.operands) == 3:
            out.append(weights)
        return out, {"path": path}

    def cost(self, site: Site, keep: Keep) -> Cost:
        t = self.product(site)
        a, b = t.in1.split(keep.operand(0)), t.in2.split(keep.operand(1))
        o = t.out.split(keep.result)
        params, flops = 0, 0.0
        for k, p in enumerate(t.paths):
            if not keep.axes["path"][k]:
                continue
            n = int(weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).sum())
            d1, d2 = t.in1.segments[p.i1].dim, t.in2.segments[p.i2].dim
            d3 = t.out.segments[p.out].dim
            outer = pair_count(p.mode, a[p.i1], b[p.i2])
            dense = p.mode in ("uvuv", "uvu<v", "u<vw") or (d1 > 1 and d2 > 1)
            couple = 2.0 * d1 * d2 * d3 if dense else float(max(d1, d2))
            flops += outer * couple
            if p.weighted:
                params += n if t.internal else 0
                flops += n * d3 * (2.0 if p.mode in ("uvw", "uuw", "u<vw") else 1.0)
        return Cost(params, flops)

    def weight_rows(self, site: Site) -> WeightRows | None:
        t = self.product(site)
        assert site.module is not None
        if not t.internal or not t.n_weights:
            return None
        one, two, out = ([[np.zeros((s.mul, 0))] for s in kind] for kind in (t.in1, t.in2, t.out))
        path = [np.zeros((1, 0)) for _ in t.paths]
        weight = self.weight(site.module).detach().double().cpu().numpy()
        for k, p in enumerate(t.paths):
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
        assert site.module is not None
        t, z = self.product(site), axes["path"]
        weight = None
        if t.n_weights:
            weight = self.weight(site.module) if t.internal else args[2]
            scale = torch.cat([z[k].expand(p.numel) for k, p in enumerate(t.paths) if p.weighted])
            weight = weight * scale.to(weight.dtype)
        out = self.run(site.module, args[0], args[1], weight)
        if all(p.weighted for p in t.paths):
            return out
        factor = torch.ones(t.out.dim, dtype=out.dtype, device=out.device)
        parts = list(factor.split([s.mul * s.dim for s in t.out]))
        for k, p in enumerate(t.paths):
            if not p.weighted and sum(q.out == p.out for q in t.paths) == 1:
                parts[p.out] = parts[p.out] * z[k]
        return out * torch.cat(parts)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        assert site.module is not None
        t, x1 = self.product(site), args[0]
        inside = t.internal and bool(t.n_weights)
        weight = self.weight(site.module).detach().expand(len(x1), -1) if inside else args[-1]
        xs1, xs2 = segments_of(x1, t.in1), segments_of(args[1], t.in2)
        out = [x1.new_zeros(x1.shape[0], s.mul, s.dim) for s in t.out]
        for p, coupling in zip(t.paths, self.couplings(site.module), strict=True):
            n1, n2, n3 = xs1[p.i1].shape[1], xs2[p.i2].shape[1], out[p.out].shape[1]
            u, v, w = grids(p.mode, n1, n2, n3)
            terms = (coupling.to(x1), xs1[p.i1][:, u], xs2[p.i2][:, v])
            term = torch.einsum("ijk,zni,znj->znk", *terms)
            if p.weighted:
                term = term * weight[:, p.weights].unsqueeze(-1)
            out[p.out] = out[p.out].index_add(1, torch.from_numpy(w).to(x1.device), term)
        if t.out.layout is Layout.IR_MUL:
            out = [o.transpose(1, 2) for o in out]
        return torch.cat([o.flatten(1) for o in out], dim=1)


def joined(masks: Sequence[BoolMask]) -> BoolMask:
    """Masks of segments as one unit mask."""
    return np.concatenate(masks) if masks else np.zeros(0, bool)


def segments_of(x: Tensor, t: IrrepsType) -> list[Tensor]:
    """The segments of flat rows, each [rows, mul, 2l+1] whatever the layout."""
    parts = x.split([s.mul * s.dim for s in t], dim=-1)
    if t.layout is Layout.IR_MUL:
        return [p.reshape(-1, s.dim, s.mul).transpose(1, 2) for p, s in zip(parts, t, strict=True)]
    return [p.reshape(-1, s.mul, s.dim) for p, s in zip(parts, t, strict=True)]


def kept_type(t: IrrepsType, mask: BoolMask) -> tuple[IrrepsType, dict[int, int]]:
    """The type of the units in ``mask``, and the new index of every segment that remains."""
    index: dict[int, int] = {}
    for i, m in enumerate(t.split(mask)):
        if m.any():
            index[i] = len(index)
    return replace(t, segments=t.kept(mask).segments), index


def _rows(values: Any, units: Any, n: int) -> Any:
    """The values of each unit, in order, as its row [n, most]; zeros fill rows with fewer."""
    order = np.argsort(units, kind="stable")
    counts = np.bincount(units, minlength=n)
    column = np.arange(len(units)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.zeros((n, int(counts.max(initial=0))))
    out[units[order], column] = values[order]
    return out
