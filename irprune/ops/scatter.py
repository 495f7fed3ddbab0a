"""Rows reduced by an index: scatter_add, scatter_reduce, torch_scatter's functions, softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from irprune import functional
from irprune.errors import UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Space
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Other, Site, register_op
from irprune.ops.operands import all_scalar, anyhow
from irprune.ops.passing import Passing

if TYPE_CHECKING:
    from irprune.blocks import Coupler

_SUMS = ("sum", "add", "mean")


def rows_after(site: Site, t: IrrepsType, sizes: Sequence[Any]) -> Space:
    """The rows that a scatter of ``t`` gives: those that a size was read from, or the next coarser."""
    known = [s.rows for s in sizes if isinstance(s, Other) and s.kind == "const" and s.rows]
    if known:
        return Space(known[0])
    coarser = {Space.EDGE: Space.NODE, Space.PAIR: Space.NODE, Space.NODE: Space.GRAPH}
    return coarser.get(t.space, Space.ANY)


def only_scalars(site: Site, t: IrrepsType, reduce: Any) -> None:
    """Refuses what is a sum over rows for scalars alone.

    Raises:
        UnknownForm: a maximum or minimum over components of vectors, or an unknown reduction.
    """
    if reduce in _SUMS or (all_scalar(t) and reduce in ("max", "min", "amax", "amin")):
        return
    raise UnknownForm(
        f"{site.where} reduces {t} by {reduce!r}; known are sum and mean, and max and min of"
        " scalars (l = 0)"
    )


@register_op
class ScatterSum(Passing):
    """Rows of edges summed into nodes (or of nodes into graphs)."""

    name = "scatter-sum"
    targets = (functional.scatter_sum,)

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        sizes = [s for s in site.types[1:] if isinstance(s, Other) and s.kind == "const" and s.rows]
        if sizes:
            return t.in_space(Space(sizes[0].rows))
        return t.in_space(Space.NODE if t.space is Space.EDGE else Space.GRAPH)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()


@register_op
class MessageGather(Passing):
    """Messages summed into as many rows as the node features have (operand 0 gives the count)."""

    name = "message-gather"
    targets = (functional.message_gather,)

    def infer(self, site: Site) -> Any:
        return site.irreps(2).in_space(site.irreps(0).space)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def takes_components(self, site: Site) -> tuple[int, ...]:
        return (2,)

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(2), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return nz[2]

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert nz[0] is not None
        return [np.zeros_like(nz[0]), None, need], {}


@register_op
class ScatterRows(Passing):
    """Rows that share an index, reduced: torch_scatter's and torch_geometric's ``scatter``."""

    name = "scatter-rows"
    targets = (functional.scatter_rows, functional.scatter, functional.scatter_mean)
    _POSITION = {"scatter_rows": (3, 4), "scatter": (4, 5), "scatter_mean": (4, None)}

    def infer(self, site: Site) -> Any:
        node, t = site.node, site.irreps(0)
        size_at, reduce_at = self._POSITION[node.target.__name__]  # type: ignore[union-attr]
        given = dict(node.kwargs)
        given.setdefault("dim_size", node.args[size_at] if len(node.args) > size_at else None)
        if reduce_at is None:
            reduce: Any = "mean"
        else:
            late = node.args[reduce_at] if len(node.args) > reduce_at else "sum"
            reduce = given.get("reduce", late)
        only_scalars(site, t, reduce)
        size = given["dim_size"]
        types = [
            x for o, x in zip(site.operands, site.types, strict=True) if isinstance(size, fx.Node)
            and o is size
        ]  # fmt: skip
        return t.in_space(rows_after(site, t, types))

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY


@register_op
class ScatterSoftmax(OpDef):
    """Softmax of each column over the rows that share an index: attention weights."""

    name = "scatter-softmax"
    targets = (functional.scatter_softmax,)

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        if not all_scalar(t) or any(s.p != 1 for s in t):
            raise UnknownForm(f"{site.where} takes a softmax of {t}; known are even scalars (0e)")
        return t

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.ones(site.result.n_units, bool)

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost(flops=5.0 * float(keep.result.sum()))


@register_op
class ScatterAdd(OpDef):
    """``out.scatter_add(0, index, src)`` with a wide index: ``out`` zeros, or rows added to."""

    name = "scatter-add"
    targets = (
        torch.scatter_add, "method:scatter_add", "method:scatter_add_",
        torch.index_add, "method:index_add", "method:index_add_",
        torch.scatter_reduce, "method:scatter_reduce",
    )  # fmt: skip

    def _source(self, site: Site) -> int:
        """The operand whose rows are added."""
        return next(i for i in range(1, len(site.types)) if isinstance(site.types[i], IrrepsType))

    def infer(self, site: Site) -> Any:
        node, base = site.node, site.types[0]
        kind = str(getattr(node.target, "__name__", node.target)).rstrip("_")
        index = site.types[1] if len(site.types) > 1 else None
        wide = isinstance(index, Other) and index.kind == (
            "index" if kind == "index_add" else "index-wide"
        )
        column = isinstance(index, Other) and index.kind == "index-column"
        sources = [t for t in site.types[1:] if isinstance(t, IrrepsType)]
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        if dim != 0 or len(sources) != 1 or not (wide or (column and sources[0].dim == 1)):
            raise UnknownForm(
                f"{site.where}: {kind} is known on dim 0 with an index per row, got dim={dim} and"
                f" {', '.join(map(str, site.types[1:]))}"
            )
        t = sources[0]
        if kind == "scatter_reduce":
            reduce = node.kwargs.get("reduce", node.args[4] if len(node.args) > 4 else None)
            only_scalars(site, t, reduce)
            if node.kwargs.get("include_self", True) and reduce != "sum":
                raise UnknownForm(f"{site.where}: {reduce!r} is known with include_self=False only")
        if "alpha" in node.kwargs:
            raise UnknownForm(f"{site.where}: index_add with alpha is not known")
        if isinstance(base, IrrepsType):
            if base.same_units(t):
                return base
        elif isinstance(base, Other) and base.kind == "zeros":
            return t.in_space(Space(base.rows) if base.rows else rows_after(site, t, ()))
        raise UnknownForm(
            f"{site.where}: rows are added to zeros or to a value with the same irreps, got"
            f" {site.operands[0].name}: {base}"
        )

    def layout_role(self, site: Site) -> LayoutRole:
        return anyhow([t for t in site.types if isinstance(t, IrrepsType)])

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(self._source(site)), c.out)
        base = site.types[0]
        if isinstance(base, IrrepsType):
            c.same(c.operand(0), c.out)
        elif isinstance(base, Other) and base.width_of is not None:
            c.tie(base.width_of, c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        source = nz[self._source(site)]
        assert source is not None
        return source if nz[0] is None else source | nz[0]

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        return [None if m is None else need for m in nz], {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()
