"""Sums, products with scalars, and scalar functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from irprune.errors import IrrepsTypeError, UnknownForm, UsageError
from irprune.functional import sum_rows
from irprune.irreps import BoolMask, IrrepsType, Layout, Space
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Other, Site, register_op, zeros

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def join_space(site: Site, a: IrrepsType, b: IrrepsType) -> Space:
    """The rows that two operands share.

    Raises:
        IrrepsTypeError: they lie over different rows; names both.
    """
    if Space.ANY in (a.space, b.space):
        return b.space if a.space is Space.ANY else a.space
    if a.space is not b.space:
        names = " and ".join(o.name for o in site.operands)
        raise IrrepsTypeError(
            f"{site.where} combines values over different rows: {names} are {a} and {b}"
        )
    return a.space


def all_scalar(t: IrrepsType) -> bool:
    """Whether every unit has l = 0."""
    return all(s.l == 0 for s in t)


def is_single(t: Any) -> bool:
    """One invariant scalar per row, with or without a feature axis."""
    return isinstance(t, IrrepsType) and t.n_units == 1 and t.unit_irs[0] == (0, 1)


def anyhow(types: Sequence[IrrepsType]) -> LayoutRole:
    """Of a call that takes rows together component by component: any layout, if they lie alike."""
    alike = all(t.same_rows(types[0]) for t in types)
    return LayoutRole.ANY if alike else LayoutRole.FIXED


def constant(site: Site) -> Other:
    """The type of arithmetic on constants alone.

    Raises:
        UnknownForm: operands that are no numbers or tensors of known shape.
    """
    shapes = [shape_of(t) for t in site.types]
    if any(s is None for s in shapes):
        raise UnknownForm(f"{site.where} computes with {', '.join(map(str, site.types))}")
    shape = tuple(torch.broadcast_shapes(*(s for s in shapes if s is not None)))
    return Other("param", shape=shape) if shape else Other("const")


def shape_of(t: Any) -> tuple[int, ...] | None:
    """The shape of a constant; () for a number, None where it is not known."""
    if isinstance(t, Other) and t.kind == "const":
        return ()
    return t.shape if isinstance(t, Other) and t.kind == "param" else None


def only_constants(site: Site) -> None:
    """Operands without irreps must be numbers or tensors of known shape.

    Raises:
        UnknownForm: another one, such as an index or a boolean mask.
    """
    for o, t in zip(site.operands, site.types, strict=True):
        if not isinstance(t, IrrepsType) and shape_of(t) is None:
            raise UnknownForm(f"{site.where} computes with {o.name}, which is {t}")


@register_op
class Add(OpDef):
    """``a + b``, ``a - b``: equal types, or a constant added to scalars."""

    name = "add"
    row_wise = True
    targets = (
        operator.add, operator.iadd, operator.sub, torch.add, torch.sub,
        "method:add", "method:add_", "method:sub",
    )  # fmt: skip

    def infer(self, site: Site) -> Any:
        irreps = [t for t in site.types if isinstance(t, IrrepsType)]
        if not irreps:
            return constant(site)
        only_constants(site)
        if "alpha" in site.node.kwargs:
            raise UnknownForm(f"{site.where}: a sum with alpha is not known")
        if len(irreps) == 1:
            if not all_scalar(irreps[0]):
                raise IrrepsTypeError(
                    f"{site.where} adds a constant to {site.operands[0].name}, which is"
                    f" {irreps[0]}: only scalars (l = 0) allow that"
                )
            return irreps[0]
        a, b = irreps
        if {Layout.ROWS} < {a.layout, b.layout} and (a.is_flat or b.is_flat):
            raise UnknownForm(f"{site.where} adds {a} and {b}: one has no axis of features")
        if not a.same_units(b):
            raise IrrepsTypeError(
                f"{site.where} adds {site.operands[0].name}: {a} and {site.operands[1].name}: {b};"
                " both must carry the same irreps in the same order"
            )
        return a.in_space(join_space(site, a, b))

    def layout_role(self, site: Site) -> LayoutRole:
        return anyhow([t for t in site.types if isinstance(t, IrrepsType)])

    def couple(self, site: Site, c: Coupler) -> None:
        for i, t in enumerate(site.types):
            if isinstance(t, IrrepsType):
                c.same(c.operand(i), c.out)
            elif isinstance(t, Other) and t.kind == "param" and t.shape and math.prod(t.shape) > 1:
                c.fixed(c.out, "added to a parameter of fixed size")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        masks = [m for m in nz if m is not None]
        if not masks:
            return None
        return masks[0] | masks[1] if len(masks) == 2 else np.ones_like(masks[0])


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


class ScalarFunction(OpDef):
    """Base of functions of each scalar alone; ``at_zero`` tells whether f(0) = 0."""

    at_zero: Callable[[Site], bool]

    def infer(self, site: Site) -> Any:
        t = site.types[0]
        if not isinstance(t, IrrepsType):
            return constant(site)
        only_constants(site)
        if not all(s.l == 0 and s.p == 1 for s in t):
            raise IrrepsTypeError(
                f"{site.where} applies a function to {site.operands[0].name}: {t}; only even"
                " scalars (0e) allow an arbitrary function"
            )
        return t

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(0), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        a = nz[0]
        return None if a is None else (a if type(self).at_zero(site) else np.ones_like(a))


@register_op
class OddFunction(ScalarFunction):
    """Functions of a scalar with f(0) = 0."""

    name = "scalar-function"
    row_wise = True
    targets = (
        torch.sin, torch.tanh, torch.relu, torch.abs, torch.sqrt, torch.square,
        torch.nn.functional.silu, torch.nn.functional.relu, torch.nn.functional.tanh,
        torch.nn.functional.gelu, "method:tanh", "method:sin", "method:abs", "method:sqrt",
        "method:square", "method:relu", "torch.nn.modules.activation.SiLU",
        "torch.nn.modules.activation.Tanh", "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.activation.GELU", "torch.nn.modules.activation.LeakyReLU",
        "torch.nn.modules.activation.ELU", torch.nn.functional.leaky_relu, torch.nn.functional.elu,
        torch.sign, "method:sign", torch.nn.functional.softsign,
    )  # fmt: skip
    at_zero = staticmethod(lambda site: True)
    ties_calls = False

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        return site.module

    def spec(self, module: nn.Module) -> dict[str, Any]:
        known = (nn.SiLU, nn.Tanh, nn.ReLU, nn.GELU, nn.LeakyReLU, nn.ELU)
        if type(module) not in known or repr(type(module)()) != repr(module):
            raise UsageError(
                f"cannot write {module!r} to a graph file; known are"
                f" {', '.join(c.__name__ for c in known)} with their default options"
            )
        return {"class": type(module).__name__}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = {
            "SiLU": nn.SiLU, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU,
            "LeakyReLU": nn.LeakyReLU, "ELU": nn.ELU,
        }[spec["class"]]()  # fmt: skip
        return made


@register_op
class OffsetFunction(ScalarFunction):
    """Functions of a scalar with f(0) ≠ 0: a dead input is a constant, not a zero."""

    name = "offset-function"
    row_wise = True
    targets = (
        torch.exp, torch.cos, torch.sigmoid, torch.nn.functional.softplus,
        torch.nn.functional.sigmoid, torch.reciprocal, torch.log, torch.rsqrt, torch.clamp,
        "method:exp", "method:cos", "method:sigmoid", "method:reciprocal", "method:log",
        "method:rsqrt", "method:clamp", "method:clamp_min",
        "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.activation.Softplus",
    )  # fmt: skip
    at_zero = staticmethod(lambda site: False)
    ties_calls = False

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        return site.module

    def spec(self, module: nn.Module) -> dict[str, Any]:
        if repr(module) not in (repr(nn.Sigmoid()), repr(nn.Softplus())):
            raise UsageError(f"cannot write {module!r} to a graph file")
        return {"class": type(module).__name__}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = {"Sigmoid": nn.Sigmoid, "Softplus": nn.Softplus}[spec["class"]]()
        return made


@register_op
class Power(ScalarFunction):
    """``x ** n`` with a constant exponent."""

    name = "pow"
    row_wise = True
    targets = (operator.pow, torch.pow, "method:pow")
    at_zero = staticmethod(lambda site: isinstance(e := site.node.args[1], (int, float)) and e > 0)


@register_op
class Negate(OpDef):
    """``-x``, and copies that change nothing."""

    name = "neg"
    row_wise = True
    targets = (
        operator.neg, torch.neg, "method:neg", "method:contiguous", "method:clone", torch.clone,
        "method:to", "method:float", "method:double", "torch.nn.modules.linear.Identity",
        "torch.nn.modules.dropout.Dropout", torch.nn.functional.dropout,
    )  # fmt: skip
    ties_calls = False

    def infer(self, site: Site) -> Any:
        node = site.node
        if node.target is torch.nn.functional.dropout:
            training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
            if training is not False:
                raise UnknownForm(
                    f"{site.where} drops at random in evaluation mode too (training={training});"
                    " pass training=self.training"
                )
        return site.types[0]

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        return site.module

    def spec(self, module: nn.Module) -> dict[str, Any]:
        return {}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.Identity()


@register_op
class Where(OpDef):
    """``torch.where(mask, constant, x)`` on one scalar per row."""

    name = "where"
    targets = (torch.where,)

    def infer(self, site: Site) -> Any:
        return next((t for t in site.types if isinstance(t, IrrepsType)), Other("const"))

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.types)):
            c.fixed(c.operand(i), "chosen by a mask")
        c.fixed(c.out, "chosen by a mask")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return next((np.ones_like(m) for m in nz if m is not None), None)


@register_op
class Norm(OpDef):
    """|x| of a single irrep per row: a scalar."""

    name = "norm"
    row_wise = True
    targets = (torch.linalg.norm, torch.linalg.vector_norm, torch.norm, "method:norm")

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        kw = site.node.kwargs
        dim = kw.get("dim", site.node.args[1] if len(site.node.args) > 1 else None)
        if t.n_units != 1 or dim not in (-1, 1):
            raise UnknownForm(
                f"{site.where} takes a norm of {site.operands[0].name}: {t} over dim={dim}; only"
                " the norm of a single irrep per row over its components is known"
            )
        scalar = IrrepsType.scalars(1, t.space)
        if kw.get("keepdim", False):
            return scalar
        return IrrepsType(scalar.segments, Layout.ROWS, t.space)

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return nz[0]


@register_op
class SumRows(OpDef):
    """The sum of several scalars per row."""

    name = "sum-rows"
    row_wise = True
    targets = (sum_rows,)

    def infer(self, site: Site) -> Any:
        return site.types[0]

    def layout_role(self, site: Site) -> LayoutRole:
        return anyhow([site.irreps(i) for i in range(len(site.types))])

    def couple(self, site: Site, c: Coupler) -> None:
        for i in range(len(site.types)):
            c.same(c.operand(i), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        out = zeros(site.result.n_units)
        for m in nz:
            out = out | m if m is not None else out
        return out
