"""Scalar activations and gates of e3nn.

A gated block needs its gate scalar and the other way round: they are one group. A gate whose input
is dead is act(0), a constant and not a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import nn as enn
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor, nn

from irprune.errors import UsageError
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.layers.gate import PlainGate
from irprune.ops.activations import (
    factor_of,
    function_named,
    name_of,
    normalised,
    raw,
    set_acts,
    value_at_zero,
)
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Site, register_op
from irprune.ops.linear import segment_masks, type_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler

Ids = NDArray[np.int64]


def kept_with(
    irreps: o3.Irreps, masks: Sequence[BoolMask], acts: Sequence[Any]
) -> tuple[o3.Irreps, list[Any]]:
    """Non-empty remains of activation segments, with their (normalised) functions."""
    rest = [
        ((int(m.sum()), ir), a)
        for (_, ir), m, a in zip(irreps, masks, acts, strict=True)
        if m.any()
    ]
    return o3.Irreps([r for r, _ in rest]), [a for _, a in rest]


def describe_acts(acts: enn.Activation) -> dict[str, Any]:
    """Names and normalisation factors of an Activation's functions, JSON-able."""
    return {
        "acts": [name_of(a) for a in acts.acts],
        "factors": [factor_of(a) for a in acts.acts],
    }


def build_acts(spec: dict[str, Any]) -> list[Any]:
    """Activations from names and factors."""
    return [normalised(n, f) for n, f in zip(spec["acts"], spec["factors"], strict=True)]


def _plain(act: Any, x: Tensor) -> Tensor:
    """act(x) from its raw function and its factor."""
    if act is None:
        return x
    factor = factor_of(act)
    return raw(act)(x) * (1.0 if factor is None else factor)


@register_op
class Activation(OpDef):
    """``e3nn.nn.Activation``: a function on each scalar segment."""

    name = "activation"
    row_wise = True
    targets = ("e3nn.nn._activation.Activation",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, enn.Activation)
        return type_of(m.irreps_out, site.expect(0, str(m.irreps_in)))

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        m = site.module
        assert isinstance(m, enn.Activation) and nz[0] is not None
        parts = segment_masks(m.irreps_in, nz[0])
        offset = [value_at_zero(a) != 0.0 for a in m.acts]
        return np.concatenate([p | o for p, o in zip(parts, offset, strict=True)])

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, enn.Activation)
        irreps, acts = kept_with(
            m.irreps_in, segment_masks(m.irreps_in, keep.operand(0)), list(m.acts)
        )
        small = enn.Activation(irreps, [raw(a) for a in acts])
        set_acts(small, acts)
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=4.0 * float(keep.result.sum()))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, enn.Activation)
        return {"irreps_in": str(module.irreps_in), **describe_acts(module)}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made = enn.Activation(spec["irreps_in"], [function_named(a) for a in spec["acts"]])
        set_acts(made, build_acts(spec))
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, enn.Activation)
        parts = [args[0][:, s] for s in m.irreps_in.slices()]
        return torch.cat([_plain(a, p) for p, a in zip(parts, m.acts, strict=True)], dim=1)


@dataclass(frozen=True)
class GateMap:
    """Where the units of a gate's parts lie in its input and output."""

    scalars: Ids
    gates: Ids
    gated: Ids
    n_in: int
    """Units of the input."""

    @property
    def out_scalars(self) -> slice:
        return slice(0, len(self.scalars))

    @property
    def out_gated(self) -> slice:
        return slice(len(self.scalars), len(self.scalars) + len(self.gated))


class GateLike(OpDef):
    """Base of gates: scalars → act, gated → gated · act(gate), one gate per gated block."""

    def parts(self, module: nn.Module) -> GateMap:
        raise TypeError(f"{type(self).__name__} must say where the parts of its input lie")

    def gates_at_zero(self, module: nn.Module) -> BoolMask:
        """Whether act(0) ≠ 0, for each scalar of the output."""
        raise TypeError(f"{type(self).__name__} must say what its activations give at 0")

    def couple(self, site: Site, c: Coupler) -> None:
        assert site.module is not None
        p = self.parts(site.module)
        x = c.operand(0)
        c.same(x[p.scalars], c.out[p.out_scalars])
        c.same(x[p.gated], c.out[p.out_gated])
        c.same(x[p.gates], c.out[p.out_gated])

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert site.module is not None and nz[0] is not None
        p = self.parts(site.module)
        scalars = nz[0][p.scalars] | self.gates_at_zero(site.module)
        return np.concatenate([scalars, nz[0][p.gated]])

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert site.module is not None and need is not None and nz[0] is not None
        p = self.parts(site.module)
        out = np.zeros_like(nz[0])
        out[p.scalars] = need[p.out_scalars]
        hot = need[p.out_gated] & nz[0][p.gated]
        out[p.gated] = hot
        out[p.gates] = hot
        return [out], {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=5.0 * float(site.result.components(keep.result).sum()))


def plain_gate(module: enn.Gate, layout: Layout = Layout.MUL_IR) -> PlainGate:
    """The same gate without TorchScript, of rows in a layout."""
    return PlainGate(
        str(module.sc.cut.irreps_in),
        str(module.irreps_out),
        module.sc.cut.instructions,
        module.act_scalars,
        module.act_gates,
        layout,
    )


@register_op
class Gate(GateLike):
    """``e3nn.nn.Gate``."""

    name = "gate"
    row_wise = True
    targets = ("e3nn.nn._gate.Gate",)

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, enn.Gate)
        return type_of(m.irreps_out, site.expect(0, str(m.irreps_in)))

    def parts(self, module: nn.Module) -> GateMap:
        assert isinstance(module, enn.Gate)
        cut = module.sc.cut
        ends = np.cumsum([0, *(mul for mul, _ in cut.irreps_in)])

        def units(where: tuple[int, ...]) -> Ids:
            runs = [np.arange(ends[i], ends[i + 1]) for i in where]
            return np.concatenate(runs).astype(np.int64) if runs else np.empty(0, np.int64)

        scalars, gates, gated = (units(tuple(w)) for w in cut.instructions)
        return GateMap(scalars, gates, gated, int(ends[-1]))

    def gates_at_zero(self, module: nn.Module) -> BoolMask:
        assert isinstance(module, enn.Gate)
        acts = module.act_scalars
        flags = [
            np.full(mul, value_at_zero(a) != 0.0)
            for (mul, _), a in zip(acts.irreps_in, acts.acts, strict=True)
        ]
        return np.concatenate(flags) if flags else np.zeros(0, bool)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, enn.Gate)
        p, mask = self.parts(m), keep.operand(0)
        scalars, act_scalars = kept_with(
            m.act_scalars.irreps_in,
            segment_masks(m.act_scalars.irreps_in, mask[p.scalars]),
            list(m.act_scalars.acts),
        )
        gates, act_gates = kept_with(
            m.act_gates.irreps_in,
            segment_masks(m.act_gates.irreps_in, mask[p.gates]),
            list(m.act_gates.acts),
        )
        gated_irreps = m.sc.irreps_outs[2]
        gated = o3.Irreps(
            [
                (int(k.sum()), ir)
                for (_, ir), k in zip(
                    gated_irreps, segment_masks(gated_irreps, mask[p.gated]), strict=True
                )
                if k.any()
            ]
        )
        small = enn.Gate(
            scalars, [raw(a) for a in act_scalars], gates, [raw(a) for a in act_gates], gated
        )
        set_acts(small.act_scalars, act_scalars)
        set_acts(small.act_gates, act_gates)
        return small

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, enn.Gate)
        return {
            "scalars": str(module.act_scalars.irreps_in),
            "act_scalars": describe_acts(module.act_scalars),
            "gates": str(module.act_gates.irreps_in),
            "act_gates": describe_acts(module.act_gates),
            "gated": str(module.sc.irreps_outs[2]),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made = enn.Gate(
            spec["scalars"],
            [function_named(a) for a in spec["act_scalars"]["acts"]],
            spec["gates"],
            [function_named(a) for a in spec["act_gates"]["acts"]],
            spec["gated"],
        )
        set_acts(made.act_scalars, build_acts(spec["act_scalars"]))
        set_acts(made.act_gates, build_acts(spec["act_gates"]))
        return made

    def capturable(self, module: nn.Module) -> nn.Module:
        assert isinstance(module, enn.Gate)
        return plain_gate(module)

    def layout_role(self, site: Site) -> LayoutRole:
        m = site.module
        assert isinstance(m, enn.Gate)
        try:
            plain = plain_gate(m, Layout.IR_MUL)
        except UsageError:
            return LayoutRole.FIXED
        alike = site.irreps(0).same_rows(IrrepsType.parse(plain.irreps_in))
        return LayoutRole.ANY if alike else LayoutRole.FIXED

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        assert isinstance(site.module, enn.Gate)
        return plain_gate(site.module, layout)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = site.module
        assert isinstance(m, enn.Gate)
        p = self.parts(m)
        t = site.irreps(0)
        x = args[0]
        ends = np.concatenate([[0], np.cumsum(t.unit_dims)])

        def take(units: Ids) -> list[Tensor]:
            return [x[:, int(ends[u]) : int(ends[u + 1])] for u in units]

        def act(module: Any, values: list[Tensor]) -> list[Tensor]:
            fs = [a for (mul, _), a in zip(module.irreps_in, module.acts, strict=True)
                  for _ in range(mul)]  # fmt: skip
            return [_plain(f, v) for f, v in zip(fs, values, strict=True)]

        scalars = act(m.act_scalars, take(p.scalars))
        gates = act(m.act_gates, take(p.gates))
        gated = [g * y for g, y in zip(gates, take(p.gated), strict=True)]
        return torch.cat(scalars + gated, dim=1)
