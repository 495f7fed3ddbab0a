"""Functions that mix all scalars of a row: typed, and kept whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType, Layout
from irprune.ops.base import Cost, Keep, Site, register_op
from irprune.ops.frozen import Frozen


def even_scalars(site: Site) -> IrrepsType:
    """Operand 0, which must be even scalars (0e) along the last axis.

    Raises:
        UnknownForm: it is something else.
    """
    t = site.types[0]
    if not isinstance(t, IrrepsType) or t.layout is not Layout.MUL_IR:
        raise UnknownForm(f"{site.where} mixes the components of {t}; known are scalars (0e)")
    if any((s.l, s.p) != (0, 1) for s in t):
        raise UnknownForm(f"{site.where} mixes the components of {t}; known are scalars (0e)")
    return t


@register_op
class LayerNorm(Frozen):
    """``torch.nn.LayerNorm`` over the scalars of a row."""

    name = "layer-norm"
    row_wise = True
    targets = ("torch.nn.modules.normalization.LayerNorm", torch.nn.functional.layer_norm)
    why = "LayerNorm takes its statistics over these neurons: without one of them all others change"

    def infer(self, site: Site) -> Any:
        t = even_scalars(site)
        if site.module is not None:
            assert isinstance(site.module, nn.LayerNorm)
            if tuple(site.module.normalized_shape) != (t.dim,):
                raise UnknownForm(
                    f"{site.where} normalises over {site.module.normalized_shape} of {t}; known is"
                    " one row of scalars"
                )
        return t

    def cost(self, site: Site, keep: Keep) -> Cost:
        params = sum(p.numel() for p in site.module.parameters()) if site.module else 0
        return Cost(params, 6.0 * float(keep.result.sum()))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, nn.LayerNorm)
        return {
            "shape": list(module.normalized_shape),
            "eps": module.eps,
            "affine": module.elementwise_affine,
            "bias": module.bias is not None,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.LayerNorm(
            spec["shape"], spec["eps"], elementwise_affine=spec["affine"], bias=spec["bias"]
        )

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m, x = site.module, args[0]
        assert isinstance(m, nn.LayerNorm)
        centred = x - x.mean(1, keepdim=True)
        y = centred / (centred.square().mean(1, keepdim=True) + m.eps).sqrt()
        y = y * m.weight if m.elementwise_affine else y
        return y + m.bias if m.bias is not None else y


@register_op
class Softmax(Frozen):
    """A softmax over the scalars of a row."""

    name = "softmax"
    row_wise = True
    targets = (
        torch.softmax, torch.nn.functional.softmax, "method:softmax",
        "torch.nn.modules.activation.Softmax",
    )  # fmt: skip
    why = "a softmax over these scalars: without one of them all others change"

    def infer(self, site: Site) -> Any:
        t = even_scalars(site)
        node, m = site.node, site.module
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        dim = m.dim if isinstance(m, nn.Softmax) else dim
        if dim not in (-1, 1):
            raise UnknownForm(f"{site.where} runs over dim={dim}; known is the last axis")
        return t

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, nn.Softmax)
        return {"dim": module.dim}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.Softmax(spec["dim"])


@register_op
class SumScalars(Frozen):
    """The sum or the mean of the scalars of a row."""

    name = "sum-scalars"
    row_wise = True
    targets = (torch.sum, torch.mean, "method:sum", "method:mean")
    why = "summed with all scalars of the row"

    def infer(self, site: Site) -> Any:
        t = even_scalars(site)
        node = site.node
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        keepdim = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
        dim = next(iter(dim)) if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
        if dim not in (-1, 1) or not isinstance(keepdim, bool):
            raise UnknownForm(f"{site.where} runs over dim={dim}; known is the last axis")
        one = IrrepsType.scalars(1, t.space)
        return one if keepdim else IrrepsType(one.segments, Layout.ROWS, t.space)
