"""Linear maps: ``e3nn.o3.Linear`` and ``torch.nn.Linear``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import ExactnessError, UnknownForm
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops import folds
from irprune.ops.base import Cost, Keep, Needs, OpDef, Site, Trait, WeightRows, register_op
from irprune.ops.constants import in_dtype_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def type_of(irreps: o3.Irreps, like: IrrepsType) -> IrrepsType:
    """e3nn's irreps as a type with the layout and rows of another."""
    return IrrepsType.of(
        ((mul, ir.l, ir.p) for mul, ir in irreps), space=like.space, layout=like.layout
    )


def segment_masks(irreps: o3.Irreps, mask: BoolMask) -> list[BoolMask]:
    """A unit mask cut at the segments of ``irreps``."""
    return list(np.split(mask, np.cumsum([mul for mul, _ in irreps])[:-1])) if len(irreps) else []


def kept_irreps(irreps: o3.Irreps, masks: Sequence[BoolMask]) -> tuple[o3.Irreps, dict[int, int]]:
    """The non-empty remains, and the new index of every segment that remains."""
    index: dict[int, int] = {}
    kept: list[tuple[int, Any]] = []
    for i, ((_, ir), m) in enumerate(zip(irreps, masks, strict=True)):
        if m.any():
            index[i] = len(kept)
            kept.append((int(m.sum()), ir))
    return o3.Irreps(kept), index


def pick(weight: Tensor, *masks: BoolMask) -> Tensor:
    """Rows, columns, … of ``weight`` at the masks, one mask per axis."""
    for axis, m in enumerate(masks):
        weight = weight.index_select(axis, torch.from_numpy(np.flatnonzero(m)).to(weight.device))
    return weight


@register_op
class Linear(OpDef):
    """Mixes the copies of each irrep: every input copy reaches every output copy of a path."""

    name = "linear"
    row_wise = True
    targets = ("e3nn.o3._linear.Linear",)
    trait = Trait.EXACT_WITH_FOLD

    def _module(self, site: Site) -> o3.Linear:
        assert isinstance(site.module, o3.Linear)
        if not site.module.internal_weights or len(site.operands) != 1:
            raise UnknownForm(
                f"{site.where}: a Linear with external weights has no OpDef; give it internal ones"
            )
        if site.module.weight.dim() != 1:
            raise UnknownForm(f"{site.where}: Linear with f_in/f_out has no OpDef")
        return site.module

    def infer(self, site: Site) -> Any:
        m = self._module(site)
        return type_of(m.irreps_out, site.expect(0, str(m.irreps_in)))

    def couple(self, site: Site, c: Coupler) -> None:
        """Nothing goes together, but e3nn cannot build a biased output that no path leads to."""
        m = self._module(site)
        starts = np.cumsum([0, *(mul for mul, _ in m.irreps_in)])
        ends = np.cumsum([0, *(mul for mul, _ in m.irreps_out)])
        for biased in {i.i_out for i in m.instructions if i.i_in == -1}:
            sources = [
                c.operand(0)[starts[i.i_in] : starts[i.i_in + 1]]
                for i in m.instructions
                if i.i_out == biased and i.i_in != -1
            ]
            if sources:
                c.some(np.concatenate(sources), c.out[ends[biased] : ends[biased + 1]])

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        m = self._module(site)
        assert nz[0] is not None
        parts = segment_masks(m.irreps_in, nz[0])
        out = [np.zeros(mul, bool) for mul, _ in m.irreps_out]
        for ins in m.instructions:
            out[ins.i_out] |= True if ins.i_in == -1 else bool(parts[ins.i_in].any())
        return np.concatenate(out) if out else np.zeros(0, bool)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        m = self._module(site)
        assert need is not None
        parts = segment_masks(m.irreps_out, need)
        out = [np.zeros(mul, bool) for mul, _ in m.irreps_in]
        for ins in m.instructions:
            if ins.i_in != -1:
                out[ins.i_in] |= bool(parts[ins.i_out].any())
        return [np.concatenate(out) if out else np.zeros(0, bool)], {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = self._module(site)
        ins_masks = segment_masks(m.irreps_in, keep.operand(0))
        out_masks = segment_masks(m.irreps_out, keep.result)
        irreps_in, new_in = kept_irreps(m.irreps_in, ins_masks)
        irreps_out, new_out = kept_irreps(m.irreps_out, out_masks)
        paths = [
            (k, i)
            for k, i in enumerate(m.instructions)
            if i.i_in != -1 and i.i_in in new_in and i.i_out in new_out and 0 not in i.path_shape
        ]
        biased = {i.i_out for i in m.instructions if i.i_in == -1}
        with in_dtype_of(m):
            small = o3.Linear(
                irreps_in,
                irreps_out,
                instructions=[(new_in[i.i_in], new_out[i.i_out]) for _, i in paths],
                biases=[i in biased for i in new_out],
            )
        weights, biases, _ = self.views(m)
        new = [
            (
                pick(weights[k], ins_masks[old.i_in], out_masks[old.i_out])
                * folds.linear_path(old.path_weight, ins.path_weight)
            ).reshape(-1)
            for (k, old), ins in zip(paths, small.instructions, strict=False)
        ]
        with torch.no_grad():
            if new:
                small.weight.copy_(torch.cat(new))
            kept_bias = [pick(biases[i], out_masks[i]) for i in new_out if i in biased]
            if kept_bias:
                small.bias.copy_(torch.cat(kept_bias))
        small.to(m.weight.device)
        return small

    @staticmethod
    def views(m: o3.Linear) -> tuple[dict[int, Tensor], dict[int, Tensor], int]:
        """Weight of each instruction, bias of each output segment."""
        weights: dict[int, Tensor] = {}
        biases: dict[int, Tensor] = {}
        offset = bias_offset = 0
        for k, ins in enumerate(m.instructions):
            size = int(np.prod(ins.path_shape))
            if ins.i_in == -1:
                biases[ins.i_out] = m.bias.detach()[bias_offset : bias_offset + size]
                bias_offset += size
            elif size:
                weights[k] = m.weight.detach()[offset : offset + size].reshape(ins.path_shape)
                offset += size
        if offset != m.weight_numel:
            raise ExactnessError(
                f"o3.Linear has {m.weight_numel} weights, but its paths account for {offset}"
            )
        return weights, biases, offset

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = self._module(site)
        a = [int(x.sum()) for x in segment_masks(m.irreps_in, keep.operand(0))]
        b = [int(x.sum()) for x in segment_masks(m.irreps_out, keep.result)]
        params = flops = 0
        for ins in m.instructions:
            if ins.i_in == -1:
                params += b[ins.i_out]
            else:
                n = a[ins.i_in] * b[ins.i_out]
                params += n
                flops += 2 * n * m.irreps_in[ins.i_in].ir.dim
        return Cost(params, float(flops), float(flops))

    def weight_rows(self, site: Site) -> WeightRows | None:
        m = self._module(site)
        rows: list[list[Any]] = [[np.zeros((mul, 0))] for mul, _ in m.irreps_in]
        cols: list[list[Any]] = [[np.zeros((mul, 0))] for mul, _ in m.irreps_out]
        for k, w in self.views(m)[0].items():
            ins = m.instructions[k]
            effective = w.double().cpu().numpy() * ins.path_weight
            rows[ins.i_in].append(effective)
            cols[ins.i_out].append(effective.T)
        return WeightRows(([np.hstack(r) for r in rows],), [np.hstack(c) for c in cols])

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, o3.Linear)
        biased = {i.i_out for i in module.instructions if i.i_in == -1}
        return {
            "irreps_in": str(module.irreps_in),
            "irreps_out": str(module.irreps_out),
            "instructions": [[i.i_in, i.i_out] for i in module.instructions if i.i_in != -1],
            "biases": [i in biased for i in range(len(module.irreps_out))],
            "path_weights": [i.path_weight for i in module.instructions],
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made = o3.Linear(
            spec["irreps_in"],
            spec["irreps_out"],
            instructions=[(a, b) for a, b in spec["instructions"]],
            biases=spec["biases"],
        )
        if [i.path_weight for i in made.instructions] != spec["path_weights"]:
            raise ExactnessError(
                f"this e3nn normalises Linear({spec['irreps_in']} -> {spec['irreps_out']})"
                " differently from the one that wrote the file"
            )
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m = self._module(site)
        x = args[0]
        weights, biases, _ = self.views(m)
        parts = [
            x[..., s].reshape(-1, mul, ir.dim)
            for s, (mul, ir) in zip(m.irreps_in.slices(), m.irreps_in, strict=True)
        ]
        out = [x.new_zeros(x.shape[0], mul, ir.dim) for mul, ir in m.irreps_out]
        for k, ins in enumerate(m.instructions):
            if ins.i_in == -1:
                out[ins.i_out] = out[ins.i_out] + biases[ins.i_out].reshape(1, -1, 1)
            elif k in weights:
                term = torch.einsum("zui,uw->zwi", parts[ins.i_in], weights[k])
                out[ins.i_out] = out[ins.i_out] + ins.path_weight * term
        return torch.cat([o.flatten(1) for o in out], dim=1)


@register_op
class TorchLinear(OpDef):
    """``torch.nn.Linear`` on scalars."""

    name = "torch-linear"
    row_wise = True
    targets = ("torch.nn.modules.linear.Linear",)

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        assert isinstance(module, nn.Linear)
        return (f"{module.in_features}x0e",)

    def infer(self, site: Site) -> Any:
        assert isinstance(site.module, nn.Linear)
        t = site.expect(0, f"{site.module.in_features}x0e")
        return IrrepsType.scalars(site.module.out_features, t.space)

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert isinstance(site.module, nn.Linear) and nz[0] is not None
        biased = "bias" in dict(site.module.named_parameters())
        alive = biased or bool(nz[0].any())
        return np.full(site.module.out_features, alive)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None and nz[0] is not None
        return [np.full(len(nz[0]), bool(need.any()))], {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, nn.Linear)
        rows, cols = keep.result, keep.operand(0)
        small = nn.Linear(int(cols.sum()), int(rows.sum()), bias=m.bias is not None)
        small.to(dtype=m.weight.dtype, device=m.weight.device)
        with torch.no_grad():
            small.weight.copy_(pick(m.weight.detach(), rows, cols))
            if m.bias is not None:
                small.bias.copy_(pick(m.bias.detach(), rows))
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        m = site.module
        assert isinstance(m, nn.Linear)
        n = int(keep.result.sum()) * int(keep.operand(0).sum())
        bias = int(keep.result.sum()) if m.bias is not None else 0
        return Cost(n + bias, 2.0 * n + bias, 2.0 * n)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, nn.Linear)
        return {
            "in": module.in_features,
            "out": module.out_features,
            "bias": module.bias is not None,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.Linear(spec["in"], spec["out"], bias=spec["bias"])
