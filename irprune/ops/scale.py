"""Constants and parameters per component (``irprune.layers.scale``): each block alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from irprune.errors import IrrepsTypeError
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.layers.scale import ComponentScale, ComponentShift, empty
from irprune.ops.base import Cost, Keep, OpDef, Site, qualified, register_op

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def one_per_unit(t: IrrepsType, values: Tensor) -> bool:
    """Whether the components of each unit share one number."""
    parts = torch.split(values.reshape(-1), [int(d) for d in t.unit_dims])
    return all(bool((p == p[0]).all()) for p in parts)


@register_op
class Scale(OpDef):
    """x times one number per component, the same for all components of a block."""

    name = "component-scale"
    row_wise = True
    targets = (qualified(ComponentScale),)
    made: type[ComponentScale] = ComponentScale

    def _weight(self, site: Site) -> Tensor:
        assert isinstance(site.module, ComponentScale)
        return site.module.weight

    def infer(self, site: Site) -> Any:
        t, w = site.irreps(0), self._weight(site)
        if t.layout is not Layout.MUL_IR or w.numel() != t.dim:
            raise IrrepsTypeError(
                f"{site.where} has {w.numel()} numbers, but {site.operands[0].name} gives {t}"
            )
        trained = isinstance(w, nn.Parameter) and t.dim != t.n_units
        if trained or not one_per_unit(t, w.detach()):
            raise IrrepsTypeError(
                f"{site.where} multiplies {site.operands[0].name}: {t} with {w.numel()} numbers that"
                " differ within an irrep, or may after training; only one number per copy keeps"
                " equivariance"
            )
        return t

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        w = self._weight(site)
        mask = torch.from_numpy(site.irreps(0).components(keep.operand(0))).to(w.device)
        small = w.detach()[mask].clone()
        return self.made(
            nn.Parameter(small, w.requires_grad) if isinstance(w, nn.Parameter) else small
        )

    def cost(self, site: Site, keep: Keep) -> Cost:
        n = int(site.irreps(0).components(keep.operand(0)).sum())
        return Cost(n if isinstance(self._weight(site), nn.Parameter) else 0, float(n))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, ComponentScale)
        return {
            "n": module.weight.numel(),
            "trained": isinstance(module.weight, nn.Parameter),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return empty(self.made, int(spec["n"]), bool(spec["trained"]))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        return torch.einsum("zi,i->zi", args[0], self._weight(site))


@register_op
class Shift(Scale):
    """x plus one number per component; scalars (l = 0) only."""

    name = "component-shift"
    targets = (qualified(ComponentShift),)
    made = ComponentShift

    def infer(self, site: Site) -> Any:
        t, w = site.irreps(0), self._weight(site)
        if t.layout is not Layout.MUL_IR or w.numel() != t.dim or t.dim != t.n_units:
            raise IrrepsTypeError(
                f"{site.where} adds {w.numel()} numbers to {site.operands[0].name}, which is {t}:"
                " only scalars (l = 0), with one number each, allow that"
            )
        return t

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(0), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        w = self._weight(site)
        return torch.stack([args[0][:, i] + w[i] for i in range(w.numel())], dim=1)
