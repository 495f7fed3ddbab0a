"""MACE's small leaves: reshaping, radial features, pair repulsion, atomic energies, scale and shift.

Classes are named, not imported: registering these ops does not need mace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import IrrepsTypeError
from irprune.families.mace.functional import ones_column, pair_item
from irprune.families.mace.library import import_mace
from irprune.irreps import IrrepsType, Layout, Segment, Space
from irprune.ops.base import Cost, Keep, OpDef, Other, Site, register_op
from irprune.ops.frozen import Frozen
from irprune.ops.structure import Constant


@register_op
class ReshapeIrreps(OpDef):
    """[N, Σ k(2l+1)] → [N, k, Σ(2l+1)]: the layout that a contraction takes."""

    name = "mace-reshape"
    row_wise = True
    targets = ("mace.modules.irreps_tools.reshape_irreps",)

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        t = site.expect(0, str(m.irreps))
        try:
            return replace(
                t,
                segments=IrrepsType.parse(str(m.irreps)).segments,
                layout=Layout.MUL_X_DIM,
            )
        except Exception as error:
            raise IrrepsTypeError(
                f"{site.where} reshapes {site.operands[0].name}: {error}"
            ) from error

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        kept = site.result.kept(keep.result)
        return self.build({"irreps": kept.irreps})

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def spec(self, module: nn.Module) -> dict[str, Any]:
        return {"irreps": str(module.irreps)}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = import_mace("mace.modules.irreps_tools").reshape_irreps(
            o3.Irreps(spec["irreps"])
        )
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        t, x = site.result, args[0]
        rows = torch.zeros(x.shape[0], t.segments[0].mul, sum(s.dim for s in t), dtype=x.dtype)
        start = column = 0
        for s in t:
            for k in range(s.mul):
                rows[:, k, column : column + s.dim] = x[:, start : start + s.dim]
                start += s.dim
            column += s.dim
        return rows


_RADIAL = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}
_TRANSFORM = {"AgnesiTransform": "Agnesi", "SoftTransform": "Soft"}


@register_op
class RadialEmbedding(Frozen):
    """Lengths → (radial features, None) or, without ``apply_cutoff``, (features, cutoff)."""

    name = "mace-radial-embedding"
    targets = ("mace.modules.blocks.RadialEmbeddingBlock",)
    why = "radial basis"

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        t = site.expect(0, "1x0e")
        one = IrrepsType.scalars(1, t.space)
        cutoff = Other("none") if getattr(m, "apply_cutoff", True) else one
        return (IrrepsType.scalars(int(m.out_dim), t.space), cutoff)

    def reads(self, site: Site) -> tuple[int, ...]:
        everything = super().reads(site)
        return everything if hasattr(site.module, "distance_transform") else everything[:1]

    def cost(self, site: Site, keep: Keep) -> Cost:
        m: Any = site.module
        return Cost(sum(p.numel() for p in m.parameters()), flops=20.0 + 4.0 * int(m.out_dim))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        kind = type(m.bessel_fn).__name__
        transform = getattr(m, "distance_transform", None)
        return {
            "r_max": float(m.cutoff_fn.r_max),
            "num_bessel": int(m.out_dim),
            "num_polynomial_cutoff": int(m.cutoff_fn.p),
            "radial_type": _RADIAL[kind],
            "distance_transform": "None"
            if transform is None
            else _TRANSFORM[type(transform).__name__],
            "apply_cutoff": bool(getattr(m, "apply_cutoff", True)),
            "trainable": [n for n, _ in m.named_parameters()],
            "coeff": getattr(m.bessel_fn, "coeff", None),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        rest = {k: v for k, v in spec.items() if k not in ("trainable", "coeff")}
        made: Any = import_mace("mace.modules.blocks").RadialEmbeddingBlock(**rest)
        if spec["coeff"] is not None:
            made.bessel_fn.coeff = spec["coeff"]
        make_trainable(made, spec["trainable"])
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        return None


def make_trainable(module: nn.Module, names: Sequence[str]) -> None:
    """Turns buffers into parameters, by name."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        child: Any = module.get_submodule(owner)
        value = child._buffers.pop(leaf)
        child.register_parameter(leaf, nn.Parameter(value))


@register_op
class PairItem(Frozen):
    """One entry of a pair that a module returns."""

    name = "pair-item"
    targets = (pair_item,)
    why = "part of a pair"

    def infer(self, site: Site) -> Any:
        return site.types[0][site.node.args[1]]

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()


@register_op
class OnesColumn(Constant):
    """A column of ones, one per row."""

    name = "ones-column"
    targets = (ones_column,)

    def infer(self, site: Site) -> Any:
        return IrrepsType.scalars(1, site.irreps(0).space)


@register_op
class ZblBasis(Frozen):
    """Screened nuclear repulsion: one energy per atom."""

    name = "mace-zbl"
    targets = ("mace.modules.radial.ZBLBasis",)
    why = "pair repulsion"

    def infer(self, site: Site) -> Any:
        return IrrepsType((Segment(1, 0, 1),), Layout.ROWS, Space.NODE)

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert site.module is not None
        return Cost(sum(p.numel() for p in site.module.parameters()), flops=60.0)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {"p": int(m.p), "trainable": any(True for _ in m.parameters())}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = import_mace("mace.modules.radial").ZBLBasis(**spec)
        return made


@register_op
class AtomicEnergies(Frozen):
    """Isolated-atom energies of each element, one column per head."""

    name = "mace-atomic-energies"
    row_wise = True
    targets = ("mace.modules.blocks.AtomicEnergiesBlock",)
    why = "isolated-atom energies"

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        heads, elements = torch.atleast_2d(m.atomic_energies).shape
        t = site.expect(0, f"{elements}x0e")
        return IrrepsType.scalars(int(heads), t.space)

    def cost(self, site: Site, keep: Keep) -> Cost:
        m: Any = site.module
        n = 2.0 * m.atomic_energies.numel()
        return Cost(flops=n, matmul=n)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {"shape": list(m.atomic_energies.shape)}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = import_mace("mace.modules.blocks").AtomicEnergiesBlock(
            np.zeros(spec["shape"])
        )
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m: Any = site.module
        table: Tensor = torch.atleast_2d(m.atomic_energies).t()
        return table[args[0].argmax(dim=1)]


@register_op
class ScaleShift(Frozen):
    """scale · x + shift, per head."""

    name = "mace-scale-shift"
    targets = ("mace.modules.blocks.ScaleShiftBlock",)
    why = "energy per atom"

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=2.0)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {"scale": list(m.scale.shape), "shift": list(m.shift.shape)}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made: nn.Module = import_mace("mace.modules.blocks").ScaleShiftBlock(
            np.ones(spec["scale"]), np.zeros(spec["shift"])
        )
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m: Any = site.module
        scale, shift = (t.reshape(-1).tolist() for t in (m.scale, m.shift))
        rows = [scale[h] * x + shift[h] for x, h in zip(args[0], args[1].tolist(), strict=True)]
        return torch.stack(rows)
