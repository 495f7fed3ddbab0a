"""``cuequivariance_torch.TransposeIrrepsLayout``: from one flat layout to the other."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from irprune.errors import IrrepsTypeError, UnknownForm
from irprune.irreps import IrrepsType, Layout
from irprune.ops.base import Cost, Keep, OpDef, Site, Trait, register_op
from irprune.ops.cueq import modules


def order_of(t: IrrepsType, layout: Layout) -> torch.Tensor:
    """Where the numbers of a row in ``layout`` come from in a row of ``t``, [dim]."""
    target = replace(t, layout=layout)
    return torch.from_numpy(t.by_copy[np.argsort(target.by_copy)])


def transposition(irreps: str, source: Layout, target: Layout) -> nn.Module:
    """The layer from one flat layout to another."""
    from cuequivariance_torch import TransposeIrrepsLayout

    a, b = (modules.layout_named(layout.value) for layout in (source, target))
    made: nn.Module = TransposeIrrepsLayout(modules.irreps_named("O3", irreps), source=a, target=b)
    return made


def irreps_in(m: Any) -> str:
    """Irreps with the segments that a layer transposes, all even: the layer knows no parities.

    Empty where it moves nothing.
    """
    inner: Any = getattr(m.f, "f", None)  # a torch.fx graph, or a CUDA kernel with its table
    if isinstance(inner, fx.GraphModule):
        added = [n.args[1] for n in inner.graph.nodes if n.target is operator.add]
        shapes = [shape for shape in added if len(shape) == 2]
    elif hasattr(inner, "_info"):
        shapes = [(int(u), int(v)) for _, u, v, _ in inner._info.tolist()]
    else:
        shapes = []
    if m.source.name == Layout.IR_MUL.value:
        shapes = [(mul, dim) for dim, mul in shapes]
    return "+".join(f"{mul}x{(dim - 1) // 2}e" for mul, dim in shapes)


@register_op
class Transpose(OpDef):
    """The same units in the other order of a row. The layer does not keep its irreps: it is asked."""

    name = "cue-transpose"
    row_wise = True
    targets = ("cuequivariance_torch.primitives.transpose.TransposeIrrepsLayout",)
    trait = Trait.EXACT
    ties_calls = False

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        return (None,)

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        t = site.irreps(0)
        source, target = Layout(m.source.name), Layout(m.target.name)
        if not t.is_flat or (t.layout is not source and not t.orderless):
            raise IrrepsTypeError(
                f"{site.where} expects the layout {source.value}, but {site.operands[0].name} gives"
                f" {t}"
            )
        out = replace(t, layout=target)
        numbers = torch.arange(t.dim, dtype=torch.float64)[None]
        try:
            moved = m(numbers)[0]
        except RuntimeError:  # another width
            moved = numbers[:, :0]
        if not torch.equal(moved, numbers[0, order_of(t, target)]):
            raise UnknownForm(
                f"{site.where} was not made for {t.irreps}, which {site.operands[0].name} gives"
            )
        return out

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m: Any = site.module
        kept = site.irreps(0).kept(keep.operand(0))
        layouts = [m.source.name, m.target.name]
        return self.build({"irreps": kept.irreps, "layouts": layouts})

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {"irreps": irreps_in(m), "layouts": [m.source.name, m.target.name]}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return transposition(spec["irreps"], *(Layout(name) for name in spec["layouts"]))

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        return args[0][:, order_of(site.irreps(0), site.result.layout)]
