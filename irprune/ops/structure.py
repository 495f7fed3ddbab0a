"""Ops on shapes, tuples and constants: nothing equivariant, nothing to prune."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from irprune.errors import UnknownForm
from irprune.functional import OneHot, first_element
from irprune.irreps import BoolMask, IrrepsType, Layout, Space
from irprune.ops.base import Cost, Keep, OpDef, Other, Site, register_op
from irprune.ops.frozen import Frozen

if TYPE_CHECKING:
    from irprune.blocks import Coupler


class Unrelated(OpDef):
    """Base of ops whose result carries no irreps: they read shapes or integers, never values."""

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> tuple[list[BoolMask | None], dict[str, BoolMask]]:
        return [None if n is None else n & False for n in nz], {}

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return None

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def takes_components(self, site: Site) -> tuple[int, ...]:
        return ()


@register_op
class GetAttribute(Unrelated):
    """``x.shape``, ``x.dtype``, ``x.device``."""

    name = "getattr"
    targets = (getattr,)

    def infer(self, site: Site) -> Any:
        if site.node.args[1] == "shape" and site.types:
            return Other("shape", value=site.types[0], width_of=site.operands[0].name)
        return Other("none", value=str(site.node.args[1]))


@register_op
class Size(Unrelated):
    """``x.size()`` and ``x.size(dim)``."""

    name = "size"
    targets = ("method:size",)

    def infer(self, site: Site) -> Any:
        shape = Other("shape", value=site.types[0], width_of=site.operands[0].name)
        args = site.node.args[1:]
        return shape_entry(shape, args[0]) if args else shape


def shape_entry(shape: Other, index: Any) -> Any:
    """The type of ``shape[index]``: the row space for axis 0, the size for the last axis."""
    t = shape.value
    if not isinstance(t, IrrepsType):
        return Other("const", rows=getattr(t, "rows", None), width_of=shape.width_of)
    if not isinstance(index, int):
        return Other("shape", value=None, width_of=shape.width_of)
    rank = {Layout.ROWS: 1, Layout.MUL_X_DIM: 3}.get(t.layout, 2)
    if index % rank == 0:
        return Other("const", rows=t.space.value)
    width = t.dim if t.is_flat else None
    return Other("const", value=width, width_of=shape.width_of)


class Constant(Unrelated):
    """Base of ops whose result is the same scalars for every row."""

    why = "a constant"

    def couple(self, site: Site, c: Coupler) -> None:
        c.fixed(c.out, self.why)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)


@register_op
class Ones(Constant):
    """``x.new_ones(rows, n)``: the same scalars for every row."""

    name = "ones"
    targets = (torch.ones, "method:new_ones")

    def infer(self, site: Site) -> Any:
        args = site.node.args[1:] if site.node.op == "call_method" else site.node.args
        shape = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        sizes = [t for t in site.types if isinstance(t, Other) and t.kind == "const" and t.rows]
        if len(shape) != 2 or not isinstance(shape[1], int) or len(sizes) != 1:
            raise UnknownForm(f"{site.where}: known are ones of shape (rows, n), got {shape}")
        return IrrepsType.scalars(shape[1], Space(sizes[0].rows or "any"))


@register_op
class IntegerArithmetic(Unrelated):
    """Arithmetic on sizes."""

    name = "floordiv"
    targets = (operator.floordiv, operator.mod)

    def infer(self, site: Site) -> Any:
        return Other("const")


@register_op
class FirstElement(Unrelated):
    """An element index of zeros, one per row."""

    name = "first-element"
    targets = (first_element,)

    def infer(self, site: Site) -> Any:
        return Other("index", rows=site.irreps(0).space.value)


@register_op
class OneHotOp(Frozen):
    """Species index → one-hot scalars; the species are data, so the units are fixed."""

    name = "one-hot"
    targets = ("irprune.functional.OneHot",)
    why = "one-hot elements"

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, OneHot)
        rows = site.types[0].rows if isinstance(site.types[0], Other) else None
        return IrrepsType.scalars(site.module.n, Space(rows or "node"))

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, OneHot)
        return {"n": module.n}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return OneHot(int(spec["n"]))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        assert isinstance(site.module, OneHot)
        return torch.eye(site.module.n, dtype=site.module.one.dtype)[args[0]]
