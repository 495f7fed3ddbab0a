"""MACE's gate and its radial network with layer norms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import IrrepsTypeError
from irprune.families.mace.library import import_mace
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.activations import function_named, name_of, value_at_zero
from irprune.ops.base import Cost, Keep, Needs, Site, register_op
from irprune.ops.frozen import Whole
from irprune.ops.gate import GateLike, GateMap

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@register_op
class GatedEquivariantBlock(GateLike):
    """``mace.modules.gate.GatedEquivariantBlock``: what e3nn's Gate does, in plain torch."""

    name = "mace-gate"
    targets = ("mace.modules.gate.GatedEquivariantBlock",)

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        if m._layout_is_ir_mul:
            raise IrrepsTypeError(f"{site.where}: layout ir_mul is not supported, only mul_ir")
        t = site.expect(0, str(m.irreps_in))
        if m._s_len + m._g_len != sum(s.mul for s in t if s.l == 0) or any(
            s.p != 1 for s in t if s.l == 0
        ):
            raise IrrepsTypeError(
                f"{site.where}: scalars of {t.irreps} are not all even; such a gate has no OpDef"
            )
        return IrrepsType.parse(str(m.irreps_out), t.space)

    def parts(self, module: nn.Module) -> GateMap:
        m: Any = module
        t = IrrepsType.parse(str(m.irreps_in))
        ends = np.concatenate([[0], np.cumsum(t.unit_dims)])

        def units(start: int, length: int) -> Any:
            a, b = np.searchsorted(ends, [start, start + length])
            return np.arange(a, b)

        gated, gates = [], []
        first_gate = int(np.searchsorted(ends, m._g_start))
        for start, length, _, mul, offset in m._gated_info:
            gated.append(units(start, length))
            gates.append(first_gate + offset + np.arange(mul))
        none = np.empty(0, np.int64)
        return GateMap(
            units(m._s_start, m._s_len),
            np.concatenate(gates) if gates else none,
            np.concatenate(gated) if gated else none,
            t.n_units,
        )

    def gates_at_zero(self, module: nn.Module) -> BoolMask:
        m: Any = module
        return np.full(m._s_len, value_at_zero(m._act_scalar) != 0.0)

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m: Any = site.module
        p, mask = self.parts(m), keep.operand(0)
        full = IrrepsType.parse(str(m.irreps_gated))
        gated = full.kept(mask[p.gated])
        made = self._make(
            [int(mask[p.scalars].sum())],
            [s.mul for s in gated],
            gated.irreps,
            m._act_scalar,
            m._act_gate,
        )
        made._scalar_cst, made._gate_cst = m._scalar_cst, m._gate_cst
        return made

    @staticmethod
    def _make(scalars: list[int], gates: list[int], gated: str, act: Any, act_gate: Any) -> Any:
        return import_mace("mace.modules.gate").GatedEquivariantBlock(
            irreps_scalars=o3.Irreps([(n, (0, 1)) for n in scalars if n]),
            act_scalars=[act for n in scalars if n],
            irreps_gates=o3.Irreps([(n, (0, 1)) for n in gates]),
            act_gates=[act_gate] * len(gates),
            irreps_gated=o3.Irreps(gated),
        )

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {
            "scalars": [mul for mul, _ in m.irreps_scalars],
            "gates": [mul for mul, _ in m.irreps_gates],
            "gated": str(m.irreps_gated),
            "act": name_of(m._act_scalar),
            "act_gate": name_of(m._act_gate),
            "norms": [m._scalar_cst, m._gate_cst],
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        made = self._make(
            spec["scalars"],
            spec["gates"],
            spec["gated"],
            function_named(spec["act"]),
            function_named(spec["act_gate"]),
        )
        made._scalar_cst, made._gate_cst = spec["norms"]
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m: Any = site.module
        p, t, x = self.parts(m), site.irreps(0), args[0]
        ends = np.concatenate([[0], np.cumsum(t.unit_dims)])
        blocks = [x[:, int(a) : int(b)] for a, b in itertools.pairwise(ends)]

        def act(f: Any, cst: float, y: Tensor) -> Tensor:
            return y if f is None else f(y) * cst

        scalars = [act(m._act_scalar, m._scalar_cst, blocks[u]) for u in p.scalars]
        gated = [
            blocks[u] * act(m._act_gate, m._gate_cst, blocks[g])
            for u, g in zip(p.gated, p.gates, strict=True)
        ]
        return torch.cat(scalars + gated, dim=1)


@register_op
class RadialMlp(Whole):
    """Linear → LayerNorm → SiLU, repeated: scalars → scalars. Only the ends can shrink."""

    name = "mace-radial-mlp"
    row_wise = True
    targets = ("mace.modules.radial.RadialMLP",)
    why = "LayerNorm takes its statistics over these neurons: without one of them all others change"

    @staticmethod
    def _linears(module: Any) -> list[nn.Linear]:
        return [layer for layer in module.net if isinstance(layer, nn.Linear)]

    def infer(self, site: Site) -> Any:
        linears = self._linears(site.module)
        t = site.expect(0, f"{linears[0].in_features}x0e")
        return IrrepsType.scalars(linears[-1].out_features, t.space)

    def axes(self, site: Site) -> dict[str, int]:
        hidden = self._linears(site.module)[:-1]
        return {f"hidden{i}": layer.out_features for i, layer in enumerate(hidden)}

    def couple(self, site: Site, c: Coupler) -> None:
        for axis in self.axes(site):
            c.fixed(c.axis(axis), self.why)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None and nz[0] is not None
        read = bool(need.any())
        return [np.full(len(nz[0]), read)], {k: np.full(len(m), read) for k, m in axes.items()}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m: Any = site.module
        linears = self._linears(m)
        made = self.build({"hs": [layer.out_features for layer in linears[:-1]], "ends": [
            int(keep.operand(0).sum()), int(keep.result.sum())
        ]}).to(linears[0].weight)  # fmt: skip
        rows = torch.from_numpy(np.flatnonzero(keep.result))
        cols = torch.from_numpy(np.flatnonzero(keep.operand(0)))
        state = {k: v.detach() for k, v in m.state_dict().items()}
        names = [n for n, layer in m.named_modules() if isinstance(layer, nn.Linear)]
        first, last = f"{names[0]}.weight", names[-1]
        state[first] = state[first].index_select(1, cols.to(state[first].device))
        for key in (f"{last}.weight", f"{last}.bias"):
            state[key] = state[key].index_select(0, rows.to(state[key].device))
        made.load_state_dict(state)
        return made

    def cost(self, site: Site, keep: Keep) -> Cost:
        hidden = [layer.out_features for layer in self._linears(site.module)[:-1]]
        sizes = [int(keep.operand(0).sum()), *hidden, int(keep.result.sum())]
        n = sum(a * b for a, b in itertools.pairwise(sizes))
        bias = sum(sizes[1:])
        norms = 2 * sum(hidden)
        return Cost(n + bias + norms, 2.0 * n + bias + 12.0 * sum(hidden), 2.0 * n)

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        m: Any = site.module
        x, hidden = args[0], 0
        for layer in m.net:
            x = layer(x)
            if isinstance(layer, nn.SiLU):
                x = x * axes[f"hidden{hidden}"].to(x.dtype)
                hidden += 1
        return x

    def spec(self, module: nn.Module) -> dict[str, Any]:
        linears = self._linears(module)
        return {
            "hs": [layer.out_features for layer in linears[:-1]],
            "ends": [linears[0].in_features, linears[-1].out_features],
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        sizes = [spec["ends"][0], *spec["hs"], spec["ends"][1]]
        made: nn.Module = import_mace("mace.modules.radial").RadialMLP(sizes)
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m: Any = site.module
        x = args[0]
        for layer in m.net:
            if isinstance(layer, nn.Linear):
                x = x @ layer.weight.t() + layer.bias
            elif isinstance(layer, nn.LayerNorm):
                mean = x.mean(dim=1, keepdim=True)
                spread = ((x - mean) ** 2).mean(dim=1, keepdim=True)
                x = (x - mean) / torch.sqrt(spread + layer.eps) * layer.weight + layer.bias
            else:
                x = x * torch.sigmoid(x)
        return x
