"""Functions of each scalar alone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from irprune.errors import IrrepsTypeError, UsageError
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Keep, OpDef, Site, register_op
from irprune.ops.operands import constant, only_constants

if TYPE_CHECKING:
    from irprune.blocks import Coupler


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
