"""``cuequivariance_torch.Linear``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from irprune.errors import ExactnessError, UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops import folds
from irprune.ops.base import Cost, Keep, Needs, OpDef, Site, Trait, WeightRows, register_op
from irprune.ops.constants import in_dtype_of
from irprune.ops.cueq import modules
from irprune.ops.linear import pick
from irprune.ops.path_product import joined, kept_type, segments_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@dataclass(frozen=True)
class Path:
    """Segments that a matrix joins, its factor, and where it lies in the flat weights."""

    i: int
    out: int
    factor: float
    weights: slice
    shape: tuple[int, int]


@dataclass(frozen=True)
class Map:
    """A linear map: its two types and its paths, in the order of their weights."""

    takes: IrrepsType
    gives: IrrepsType
    paths: tuple[Path, ...]


def paths_of(polynomial: Any) -> tuple[Path, ...]:
    """The paths of the descriptor ``uv,iu,iv``, in the order of their weights."""
    ((_, d),) = polynomial.operations
    slices = d.operands[0].segment_slices()
    paths = []
    for p in d.paths:
        w, i, out = p.indices
        u, v = d.operands[0][w]
        paths.append(Path(i, out, float(p.coefficients), slices[w], (int(u), int(v))))
    return tuple(sorted(paths, key=lambda p: p.weights.start))


@register_op
class CueLinear(OpDef):
    """Mixes the copies of each irrep, from and to either flat layout."""

    name = "cue-linear"
    row_wise = True
    targets = ("cuequivariance_torch.operations.linear.Linear",)
    trait = Trait.EXACT_WITH_FOLD

    def map_of(self, site: Site) -> Map:
        """What the call computes.

        Raises:
            UnknownForm: external weights, or several classes of weights.
        """
        m: Any = site.module
        if not m.internal_weights or m.weight_classes != 1 or len(site.operands) != 1:
            raise UnknownForm(
                f"{site.where}: a Linear of cuEquivariance with external weights or with"
                f" weight_classes ({m.weight_classes}) has no OpDef; give it internal weights of one"
                " class"
            )
        takes = modules.type_of(m.irreps_in, m.transpose_in.source)
        gives = modules.type_of(m.irreps_out, m.transpose_out.target)
        return Map(takes, gives, paths_of(modules.described(site)))

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        m: Any = module
        return (modules.expected(m.irreps_in, m.transpose_in.source),)

    def infer(self, site: Site) -> Any:
        m = self.map_of(site)
        return m.gives.in_space(site.expect_type(0, m.takes).space)

    def couple(self, site: Site, c: Coupler) -> None:
        """Nothing goes together, but cuEquivariance cannot build a map without a path."""
        m = self.map_of(site)
        for out in {p.out for p in m.paths}:
            sources = [c.operand(0)[m.takes.units(p.i)] for p in m.paths if p.out == out]
            c.some(np.concatenate(sources), c.out[m.gives.units(out)])
        reached = [c.out[m.gives.units(out)] for out in sorted({p.out for p in m.paths})]
        c.some(np.concatenate(reached), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        m = self.map_of(site)
        assert nz[0] is not None
        parts, out = m.takes.split(nz[0]), [np.zeros(s.mul, bool) for s in m.gives]
        for p in m.paths:
            out[p.out] |= bool(parts[p.i].any())
        return joined(out)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        m = self.map_of(site)
        assert need is not None
        parts, out = m.gives.split(need), [np.zeros(s.mul, bool) for s in m.takes]
        for p in m.paths:
            out[p.i] |= bool(parts[p.out].any())
        return [joined(out)], {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        old: Any = site.module
        m = self.map_of(site)
        takes, new_in = kept_type(m.takes, keep.operand(0))
        gives, new_out = kept_type(m.gives, keep.result)
        ins, outs = m.takes.split(keep.operand(0)), m.gives.split(keep.result)
        with in_dtype_of(old):
            small = self.make(
                modules.irreps_of(takes, old.irreps_in.irrep_class),
                modules.irreps_of(gives, old.irreps_out.irrep_class),
                (old.transpose_in.source, old.transpose_out.target),
                modules.math_dtype(old),
                old.method,
            )
        kept = [p for p in m.paths if p.i in new_in and p.out in new_out]
        made = paths_of(small.f._polynomial_orig)
        if [(new_in[p.i], new_out[p.out]) for p in kept] != [(p.i, p.out) for p in made]:
            raise ExactnessError(
                f"{site.where}: cuEquivariance joins other segments of {takes.irreps} and"
                f" {gives.irreps} than the original layer does"
            )
        weight = old.weight.detach()[0]
        parts = [
            pick(weight[p.weights].reshape(p.shape), ins[p.i], outs[p.out]).reshape(-1)
            * folds.segmented_path(p.factor, q.factor)
            for p, q in zip(kept, made, strict=True)
        ]
        with torch.no_grad():
            small.weight.copy_(torch.cat(parts)[None])
        return small.to(weight.device)

    @staticmethod
    def make(
        irreps_in: Any, irreps_out: Any, layouts: Sequence[Any], dtype: str | None, method: str
    ) -> Any:
        """A layer as cuEquivariance makes it, with weights in the default dtype of torch."""
        from cuequivariance_torch import Linear

        with modules.quiet():
            return Linear(
                irreps_in, irreps_out, layout_in=layouts[0], layout_out=layouts[1],
                dtype=torch.get_default_dtype(), math_dtype=dtype, method=method,
            )  # fmt: skip

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = self.map_of(site)
        a = [int(x.sum()) for x in m.takes.split(keep.operand(0))]
        b = [int(x.sum()) for x in m.gives.split(keep.result)]
        params = sum(a[p.i] * b[p.out] for p in m.paths)
        flops = 2.0 * sum(a[p.i] * b[p.out] * m.takes.segments[p.i].dim for p in m.paths)
        return Cost(params, flops, flops)

    def weight_rows(self, site: Site) -> WeightRows | None:
        m, module = self.map_of(site), site.module
        rows = [[np.zeros((s.mul, 0))] for s in m.takes]
        cols = [[np.zeros((s.mul, 0))] for s in m.gives]
        weight = module.weight.detach().double().cpu().numpy()[0]  # type: ignore[union-attr, operator]
        for p in m.paths:
            effective: NDArray[np.float64] = weight[p.weights].reshape(p.shape) * p.factor
            rows[p.i].append(effective)
            cols[p.out].append(effective.T)
        return WeightRows(([np.hstack(r) for r in rows],), [np.hstack(c) for c in cols])

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        layouts = (m.transpose_in.source, m.transpose_out.target)
        return modules.spec_of(m, (m.irreps_in, m.irreps_out), layouts)

    def build(self, spec: dict[str, Any]) -> nn.Module:
        takes, gives = (modules.irreps_named(spec["group"], t) for t in spec["irreps"])
        layouts = [modules.layout_named(name) for name in spec["layouts"]]
        made: nn.Module = self.make(takes, gives, layouts, spec["math_dtype"], spec["method"])
        modules.put(made, modules.polynomial_from_json(spec["polynomial"], 2), spec["method"])
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m, x = self.map_of(site), args[0]
        weight: Any = site.module.weight  # type: ignore[union-attr]
        parts = segments_of(x, m.takes)
        out = [x.new_zeros(len(x), s.mul, s.dim) for s in m.gives]
        for p in m.paths:
            w = weight.detach()[0, p.weights].reshape(p.shape)
            out[p.out] = out[p.out] + p.factor * torch.einsum("zui,uw->zwi", parts[p.i], w)
        if m.gives.layout is Layout.IR_MUL:
            out = [o.transpose(1, 2) for o in out]
        return torch.cat([o.flatten(1) for o in out], dim=1)
