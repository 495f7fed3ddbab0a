"""Products and quotients of irreps and scalars over the same rows."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from irprune.errors import IrrepsTypeError
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Other, Site, register_op
from irprune.ops.operands import all_scalar, constant, is_single, join_space, only_constants

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class Multiply(OpDef):
    """``a * b``, ``a / b``: irreps with a scalar per row, a constant, or scalars with scalars."""

    name = "mul"
    row_wise = True
    targets = (
        operator.mul, operator.truediv, torch.mul, torch.div, "method:mul", "method:div",
    )  # fmt: skip

    def _split(self, site: Site) -> tuple[int | None, int | None]:
        """(operand that carries the units, operand that scales it), among irreps operands."""
        where = [i for i, t in enumerate(site.types) if isinstance(t, IrrepsType)]
        if not where:
            return None, None
        if len(where) == 1:
            return where[0], None
        a, b = where[:2]
        if is_single(site.types[a]) and not is_single(site.types[b]):
            return b, a
        return a, b

    def infer(self, site: Site) -> Any:
        main, scale = self._split(site)
        if main is None:
            return constant(site)
        only_constants(site)
        t = site.irreps(main)
        divisor = self._divisor(site)
        if divisor is not None and not all_scalar(site.irreps(divisor)):
            raise IrrepsTypeError(
                f"{site.where} divides by {site.operands[divisor].name}:"
                f" {site.irreps(divisor)}; only scalars (l = 0) allow that"
            )
        if scale is not None:
            s = site.irreps(scale)
            space = join_space(site, t, s)
            if is_single(s) and (s.layout is t.layout or (s.is_flat and t.is_flat)):
                return t.in_space(space)
            if all_scalar(t) and t.same_units(s) and all(g.p == 1 for g in t):
                return t.in_space(space)
            raise IrrepsTypeError(
                f"{site.where} multiplies {site.operands[main].name}: {t} with"
                f" {site.operands[scale].name}: {s}; only an invariant scalar per row scales irreps"
            )
        size = max((math.prod(p.shape or ()) for p in self._params(site)), default=1)
        if size <= 1 or size == t.dim == t.n_units:
            return t
        if is_single(t) and t.layout is Layout.MUL_IR:
            return IrrepsType.scalars(size, t.space)
        raise IrrepsTypeError(
            f"{site.where} multiplies {site.operands[main].name}: {t} with a parameter of"
            f" {size} numbers; only one number, or one per scalar, keeps equivariance"
        )

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def _divides(self, site: Site) -> bool:
        return site.node.target in (operator.truediv, torch.div, "div")

    def _divisor(self, site: Site) -> int | None:
        """The operand that carries irreps and divides."""
        args = site.node.args
        if not self._divides(site) or len(args) < 2 or not isinstance(args[1], fx.Node):
            return None
        i = site.operands.index(args[1], int(isinstance(args[0], fx.Node)))
        return i if isinstance(site.types[i], IrrepsType) else None

    def _params(self, site: Site) -> list[Other]:
        return [t for t in site.types if isinstance(t, Other) and t.kind == "param"]

    def couple(self, site: Site, c: Coupler) -> None:
        main, scale = self._split(site)
        if main is None:
            return
        wide = any(math.prod(p.shape or ()) > 1 for p in self._params(site))
        if wide or len(c.operand(main)) != len(c.out):
            c.fixed(c.out, "scaled by a parameter of fixed size")
            c.fixed(c.operand(main), "scaled by a parameter of fixed size")
            return
        c.same(c.operand(main), c.out)
        if scale is not None and not is_single(site.types[scale]):
            c.same(c.operand(scale), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        main, scale = self._split(site)
        if main is None:
            return None
        a = nz[main]
        assert a is not None
        if self._divisor(site) == main:
            return np.ones(site.result.n_units, bool)
        if len(a) != site.result.n_units:
            return np.full(site.result.n_units, bool(a.any()))
        if scale is None or self._divides(site):
            return a
        b = nz[scale]
        assert b is not None
        return a & b if len(b) == len(a) else a & bool(b.any())

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        out: list[BoolMask | None] = [None] * len(nz)
        main, scale = self._split(site)
        if main is None or need is None:
            return out, {}
        a = nz[main]
        assert a is not None
        b = nz[scale] if scale is not None else None
        if len(a) != len(need):
            out[main] = np.full(len(a), bool(need.any()))
            return out, {}
        divides = self._divides(site)
        if b is None or scale is None:
            out[main] = need
        elif len(a) == len(b):
            out[main], out[scale] = need & (b | divides), need & a
        else:
            out[main] = need & (bool(b.any()) or divides)
            out[scale] = np.full(len(b), bool((need & a).any()))
        return out, {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        main, _ = self._split(site)
        if main is None or not isinstance(site.out, IrrepsType):
            return Cost()
        return Cost(flops=float(site.out.components(keep.result).sum()) if main is not None else 0)
