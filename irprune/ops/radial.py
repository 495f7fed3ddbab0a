"""``e3nn.nn.FullyConnectedNet``: the network that makes path weights from distance."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import nn as enn
from torch import Tensor, nn

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops import folds
from irprune.ops.activations import factor_of, name_of, normalised, raw, value_at_zero
from irprune.ops.base import Cost, Keep, OpDef, Site, Trait, WeightRows, register_op
from irprune.ops.linear import pick

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def layers_of(m: enn.FullyConnectedNet) -> list[Any]:
    """The layers, first to last."""
    return list(m.children())


@register_op
class FullyConnectedNet(OpDef):
    """Scalars → scalars through hidden layers; ``hidden{i}`` are its neurons."""

    name = "fully-connected-net"
    row_wise = True
    targets = ("e3nn.nn._fc.FullyConnectedNet",)
    trait = Trait.EXACT_WITH_FOLD

    def infer(self, site: Site) -> Any:
        m = site.module
        assert isinstance(m, enn.FullyConnectedNet)
        t = site.expect(0, f"{m.hs[0]}x0e")
        return IrrepsType.scalars(m.hs[-1], t.space)

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        assert isinstance(module, enn.FullyConnectedNet)
        return (f"{module.hs[0]}x0e",)

    def axes(self, site: Site) -> dict[str, int]:
        assert isinstance(site.module, enn.FullyConnectedNet)
        return {f"hidden{i}": h for i, h in enumerate(site.module.hs[1:-1])}

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def _alive(self, site: Site, axes: dict[str, BoolMask]) -> bool:
        return all(bool(m.any()) for m in axes.values())

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        m = site.module
        assert isinstance(m, enn.FullyConnectedNet) and nz[0] is not None
        offset = any(
            layer.act is not None and value_at_zero(layer.act) != 0.0 for layer in layers_of(m)
        )
        alive = offset or (bool(nz[0].any()) and self._alive(site, axes))
        return np.full(m.hs[-1], alive)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> tuple[list[BoolMask | None], dict[str, BoolMask]]:
        assert need is not None and nz[0] is not None
        read = bool(need.any()) and self._alive(site, axes)
        return [np.full(len(nz[0]), read)], {k: m & bool(need.any()) for k, m in axes.items()}

    def _masks(self, site: Site, keep: Keep) -> list[BoolMask]:
        assert isinstance(site.module, enn.FullyConnectedNet)
        hidden = [keep.axes[f"hidden{i}"] for i in range(len(site.module.hs) - 2)]
        return [keep.operand(0), *hidden, keep.result]

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, enn.FullyConnectedNet)
        small = copy.deepcopy(m)
        masks = self._masks(site, keep)
        for layer, rows, cols in zip(layers_of(small), masks, masks[1:], strict=False):
            weight = pick(layer.weight.detach(), rows, cols)
            new = int(rows.sum())
            layer.weight = nn.Parameter(
                weight * folds.fan_in(layer.h_in, new), requires_grad=layer.weight.requires_grad
            )
            layer.h_in, layer.h_out = new, int(cols.sum())
        small.hs = [int(k.sum()) for k in masks]
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        sizes = [int(k.sum()) for k in self._masks(site, keep)]
        n = sum(a * b for a, b in itertools.pairwise(sizes))
        return Cost(n, 2.0 * n + 4.0 * sum(sizes[1:-1]), 2.0 * n)

    def weight_rows(self, site: Site) -> WeightRows | None:
        matrices = [
            w.weight.detach().double().cpu().numpy() * (w.var_out / (w.h_in * w.var_in)) ** 0.5
            for w in layers_of(site.module)
        ]
        hidden = {
            f"hidden{i}": [np.hstack([a.T, b])]
            for i, (a, b) in enumerate(itertools.pairwise(matrices))
        }
        return WeightRows(([matrices[0]],), [matrices[-1].T], hidden)

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        x = args[0]
        assert site.module is not None
        for i, layer in enumerate(layers_of(site.module)):
            x = layer(x)
            if (z := axes.get(f"hidden{i}")) is not None:
                x = x * z.to(x.dtype)
        return x

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, enn.FullyConnectedNet)
        layers = layers_of(module)
        return {
            "hs": [int(h) for h in module.hs],
            "acts": [name_of(layer.act) for layer in layers],
            "factors": [factor_of(layer.act) for layer in layers],
            "var_in": [float(layer.var_in) for layer in layers],
            "var_out": [float(layer.var_out) for layer in layers],
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made = enn.FullyConnectedNet(spec["hs"], torch.nn.functional.silu)
        for layer, act, factor, a, b in zip(
            layers_of(made),
            spec["acts"],
            spec["factors"],
            spec["var_in"],
            spec["var_out"],
            strict=True,
        ):
            layer.act, layer.var_in, layer.var_out = normalised(act, factor), a, b
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        x = args[0]
        for layer in layers_of(site.module):
            x = x @ layer.weight / (layer.h_in * layer.var_in) ** 0.5
            if layer.act is not None:
                factor = factor_of(layer.act)
                x = raw(layer.act)(x) * (1.0 if factor is None else factor)
            x = x * layer.var_out**0.5
        return x
