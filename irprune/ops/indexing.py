"""Gather, scatter, concatenation, slicing, squeezing: blocks move, none is mixed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import fx

from irprune.errors import ExactnessError, IrrepsTypeError, UnknownForm
from irprune.functional import mask_head, message_gather, scatter_sum, take_head
from irprune.irreps import BoolMask, IrrepsType, Layout, Segment, Space
from irprune.ops.base import Cost, Keep, LayoutRole, Needs, OpDef, Other, Site, register_op
from irprune.ops.structure import Unrelated, shape_entry

if TYPE_CHECKING:
    from irprune.blocks import Coupler


def _value(x: Any, site: Site) -> Any:
    """A constant, or the known value of a traced size."""
    if isinstance(x, fx.Node):
        t = dict(zip((o.name for o in site.operands), site.types, strict=True))[x.name]
        return t.value if isinstance(t, Other) and t.kind == "const" else None
    return x


def cut(site: Site, t: IrrepsType, start: int, stop: int) -> slice:
    """The units whose components are exactly [start, stop).

    Raises:
        IrrepsTypeError: the cut goes through an irrep.
    """
    ends = np.concatenate([[0], np.cumsum(t.unit_dims)])
    a, b = np.searchsorted(ends, [start, stop])
    if b >= len(ends) or ends[a] != start or ends[b] != stop:
        raise IrrepsTypeError(
            f"{site.where} takes components {start}:{stop} of {site.operands[0].name}: {t}, which"
            " cuts through an irrep"
        )
    if t.layout is Layout.IR_MUL and not {a, b} <= set(t.starts):
        raise IrrepsTypeError(
            f"{site.where} takes components {start}:{stop} of {site.operands[0].name}: {t}, whose"
            " copies are not contiguous; only whole segments can be taken"
        )
    return slice(int(a), int(b))


def sub_type(t: IrrepsType, units: slice) -> IrrepsType:
    """The type of a run of units."""
    mask = np.zeros(t.n_units, bool)
    mask[units] = True
    return t.kept(mask)


def widths_of_users(site: Site) -> set[int]:
    """The width after slicing of what reads a value; one number, or none where nothing says.

    Raises:
        ExactnessError: it would have to be of several widths.
    """
    users = [u for u in site.node.users if u.op.startswith("call")]
    sizes = {int(u.meta["sliced_dim"]) for u in users if "sliced_dim" in u.meta}
    if len(sizes) > 1:
        raise ExactnessError(f"{site.where} is read by values of different width after slicing")
    return sizes


class Passing(OpDef):
    """Base of ops that hand a run of units of operand 0 on as their result."""

    def units(self, site: Site) -> slice:
        return slice(0, site.irreps(0).n_units)

    def couple(self, site: Site, c: Coupler) -> None:
        if isinstance(site.out, IrrepsType):
            c.same(c.operand(0)[self.units(site)], c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        if not isinstance(site.out, IrrepsType) or nz[0] is None:
            return None
        return nz[0][self.units(site)]

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        out: list[BoolMask | None] = [None if m is None else np.zeros_like(m) for m in nz]
        if need is not None and out and out[0] is not None:
            out[0][self.units(site)] = need
        return out, {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()


def _is_column(key: Any) -> bool:
    """``x[:, None]`` or ``x[..., None]``."""
    return (
        isinstance(key, tuple)
        and len(key) == 2
        and key[0] in (slice(None), Ellipsis)
        and (key[1] is None)
    )


@register_op
class GetItem(Passing):
    """``x[index]`` gathers rows; ``x[:, a:b]`` takes units; also items of tuples and shapes."""

    name = "getitem"
    targets = (operator.getitem,)

    def columns(self, site: Site) -> slice | None:
        """The units that ``x[:, a:b]`` takes; None for other forms."""
        key = site.node.args[1]
        if (
            isinstance(key, tuple)
            and len(key) == 2
            and isinstance(key[1], slice)
            and key[0] in (slice(None), Ellipsis)
            and key[1].step is None
        ):
            t = site.irreps(0)
            start, stop = _value(key[1].start, site), _value(key[1].stop, site)
            a, b, _ = slice(start, stop).indices(t.dim)
            return cut(site, t, a, b)
        return None

    def units(self, site: Site) -> slice:
        if not isinstance(site.types[0], IrrepsType):
            return slice(0, 0)
        return self.columns(site) or super().units(site)

    def _table(self, site: Site, base: Other) -> Any:
        """``table[species]``: one number per row out of a parameter vector."""
        index = site.types[1]
        if isinstance(index, Other) and index.rows and len(base.shape or ()) == 1:
            return IrrepsType((Segment(1, 0, 1),), Layout.ROWS, Space(index.rows))
        raise UnknownForm(
            f"{site.where} indexes the parameter {site.operands[0].name} ({base}) with"
            f" {site.operands[1].name} ({index}); known is a vector indexed by rows"
        )

    def couple(self, site: Site, c: Coupler) -> None:
        if isinstance(site.types[0], tuple) and isinstance(site.out, IrrepsType):
            c.fixed(c.out, "part of a tuple")
        elif isinstance(site.types[0], Other) and isinstance(site.out, IrrepsType):
            c.fixed(c.out, "a number per row from a parameter table")
        else:
            super().couple(site, c)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        if not isinstance(site.types[0], IrrepsType) and isinstance(site.out, IrrepsType):
            return np.ones(site.out.n_units, bool)
        return super().nonzero(site, nz, axes)

    def layout_role(self, site: Site) -> LayoutRole:
        gathers = isinstance(site.types[0], IrrepsType) and isinstance(site.node.args[1], fx.Node)
        return LayoutRole.ANY if gathers else LayoutRole.FIXED

    def _static(self, site: Site, base: Other) -> Any:
        """A part of a parameter, by constants."""
        key = site.node.args[1]
        if base.shape is None or len(site.operands) > 1:
            raise UnknownForm(f"{site.where} indexes {site.operands[0].name} ({base}) with {key!r}")
        return Other(
            "param", shape=tuple(torch.empty(base.shape, device="meta")[cast(Any, key)].shape)
        )

    def infer(self, site: Site) -> Any:
        base, key = site.types[0], site.node.args[1]
        if isinstance(base, tuple) and isinstance(key, int):
            return base[key]
        if _is_column(key):
            if isinstance(base, Other) and base.kind == "index":
                return Other("index-column", rows=base.rows)
            if isinstance(base, IrrepsType) and base.layout is Layout.ROWS:
                return replace(base, layout=Layout.MUL_IR)
        if isinstance(base, Other):
            if base.kind == "shape":
                return shape_entry(base, key)
            if base.kind == "edge_index" and isinstance(key, int):
                return Other("index", rows="edge")
            if base.kind == "param" and isinstance(key, fx.Node):
                return self._table(site, base)
            if base.kind == "index" and isinstance(key, fx.Node):
                index = site.types[1]
                rows = index.rows if isinstance(index, Other) else None
                if rows is None:
                    raise UnknownForm(f"{site.where} indexes {base} with {index}")
                return Other("index", rows=rows)
            if base.kind == "param":
                return self._static(site, base)
            if base.kind in ("none", "const"):
                return base
            raise UnknownForm(f"{site.where} indexes {site.operands[0].name} ({base}) with {key!r}")
        if isinstance(key, fx.Node):
            index = site.types[1]
            if isinstance(index, Other) and index.kind == "index" and index.rows:
                return base.in_space(Space(index.rows))
        elif (columns := self.columns(site)) is not None:
            return sub_type(base, columns)
        raise UnknownForm(
            f"{site.where} indexes {site.operands[0].name}: {base} with {key!r}; known are rows"
            " x[index] and columns x[:, a:b]"
        )

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not isinstance(site.types[0], IrrepsType) or self.columns(site) is None:
            return args, kwargs
        units = self.columns(site)
        assert units is not None
        width = np.cumsum(np.concatenate([[0], site.irreps(0).unit_dims * keep.operand(0)]))
        bounds = slice(int(width[units.start]), int(width[units.stop]))
        return (args[0], (args[1][0], bounds)), kwargs


@register_op
class IndexSelect(Passing):
    """``torch.index_select(x, 0, index)``."""

    name = "index-select"
    targets = (torch.index_select, "method:index_select")

    def infer(self, site: Site) -> Any:
        index = site.types[-1]
        dim = site.node.kwargs.get("dim", site.node.args[1] if len(site.node.args) > 1 else None)
        if dim != 0 or not isinstance(index, Other) or not index.rows:
            raise UnknownForm(f"{site.where}: only rows (dim 0) can be selected, got dim={dim}")
        return site.irreps(0).in_space(Space(index.rows))

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY


@register_op
class Narrow(Passing):
    """``x.narrow(-1, start, length)``."""

    name = "narrow"
    targets = (torch.narrow, "method:narrow")

    def _bounds(self, site: Site) -> tuple[int, int]:
        _, dim, start, length = site.node.args
        a, n = _value(start, site), _value(length, site)
        if dim not in (-1, 1) or not isinstance(a, int) or not isinstance(n, int):
            raise UnknownForm(
                f"{site.where}: narrow is known on the last axis with constant bounds, got"
                f" dim={dim}, start={start}, length={length}"
            )
        return a, a + n

    def units(self, site: Site) -> slice:
        return cut(site, site.irreps(0), *self._bounds(site))

    def infer(self, site: Site) -> Any:
        return sub_type(site.irreps(0), self.units(site))

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        width = np.cumsum(np.concatenate([[0], site.irreps(0).unit_dims * keep.operand(0)]))
        units = self.units(site)
        a, b = int(width[units.start]), int(width[units.stop])
        return (args[0], args[1], a, b - a), kwargs


@register_op
class Unsqueeze(Passing):
    """[rows] → [rows, 1]."""

    name = "unsqueeze"
    row_wise = True
    targets = (torch.unsqueeze, "method:unsqueeze")

    def infer(self, site: Site) -> Any:
        t = site.types[0]
        if isinstance(t, IrrepsType) and t.layout is Layout.ROWS and site.node.args[1] in (-1, 1):
            return replace(t, layout=Layout.MUL_IR)
        if isinstance(t, Other) and t.kind == "index" and site.node.args[1] in (-1, 1):
            return Other("index-column", rows=t.rows)
        raise UnknownForm(f"{site.where} unsqueezes {site.operands[0].name}: {t}")


@register_op
class ViewColumn(Passing):
    """``x.view(-1, 1)`` of one scalar per row: [rows] → [rows, 1]."""

    name = "view-column"
    row_wise = True
    targets = ("method:view", "method:reshape", torch.reshape)

    def infer(self, site: Site) -> Any:
        t, shape = site.types[0], site.node.args[1:]
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        if isinstance(t, IrrepsType) and t.n_units == 1 and t.dim == 1:
            if shape == (-1, 1):
                return replace(t, layout=Layout.MUL_IR)
            if shape == (-1,):
                return replace(t, layout=Layout.ROWS)
        if isinstance(t, Other) and t.kind == "index" and shape == (-1, 1):
            return Other("index-column", rows=t.rows)
        raise UnknownForm(
            f"{site.where} reshapes {site.operands[0].name}: {t} to {shape}; known is one number per"
            " row to (-1, 1) or (-1,)"
        )


@register_op
class Squeeze(Passing):
    """[rows, 1] → [rows]."""

    name = "squeeze"
    row_wise = True
    targets = (torch.squeeze, "method:squeeze")

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        if t.layout is Layout.MUL_IR and t.dim == 1 and site.node.args[1:] in ((-1,), (1,)):
            return replace(t, layout=Layout.ROWS)
        raise UnknownForm(
            f"{site.where} squeezes {site.operands[0].name}: {t}; known is squeeze(-1) of one scalar"
        )


@register_op
class Concatenate(OpDef):
    """``torch.cat`` along the last axis."""

    name = "concat"
    row_wise = True
    targets = (torch.cat, torch.concat, torch.concatenate)

    def infer(self, site: Site) -> Any:
        dim = site.node.kwargs.get("dim", site.node.args[1] if len(site.node.args) > 1 else 0)
        parts = [site.irreps(i) for i in range(len(site.types))]
        mixed = any(p.layout is Layout.IR_MUL for p in parts)
        layout = Layout.IR_MUL if mixed else Layout.MUL_IR
        if dim not in (-1, 1):
            raise UnknownForm(f"{site.where} concatenates along dim={dim}; known is the last")
        if any(p.layout is not layout and not (p.is_flat and p.orderless) for p in parts):
            given = ", ".join(map(str, parts))
            raise UnknownForm(f"{site.where} concatenates {given}; known is one flat layout")
        segments: tuple[Segment, ...] = sum((p.segments for p in parts), ())
        spaces = {p.space for p in parts} - {Space.ANY}
        if len(spaces) > 1:
            names = ", ".join(f"{o.name}: {p}" for o, p in zip(site.operands, parts, strict=True))
            raise IrrepsTypeError(f"{site.where} concatenates different rows: {names}")
        return IrrepsType(segments, layout, spaces.pop() if spaces else Space.ANY)

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def couple(self, site: Site, c: Coupler) -> None:
        start = 0
        for i in range(len(site.types)):
            ids = c.operand(i)
            c.same(ids, c.out[start : start + len(ids)])
            start += len(ids)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return np.concatenate([m for m in nz if m is not None])

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None
        sizes = [len(m) for m in nz if m is not None]
        return list(np.split(need, np.cumsum(sizes)[:-1])), {}

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()


@register_op
class ScatterSum(Passing):
    """Rows of edges summed into nodes (or of nodes into graphs)."""

    name = "scatter-sum"
    targets = (scatter_sum,)

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
    targets = (message_gather,)

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
class NewZeros(Unrelated):
    """``x.new_zeros(rows, dim)`` and ``torch.zeros(rows, dim)`` as the target of an index_add."""

    name = "zeros"
    holds_width = True
    targets = (torch.zeros, "method:new_zeros")

    def infer(self, site: Site) -> Any:
        sizes = [t for t in site.types if isinstance(t, Other)]
        if any(t.kind == "shape" for t in sizes):
            raise UnknownForm(
                f"{site.where} takes a whole shape; known are rows and width one by one"
            )
        rows = next((t.rows for t in sizes if t.kind == "const" and t.rows), None)
        widths = [t.width_of for t in sizes if t.kind == "const" and t.width_of is not None]
        return Other("zeros", rows=rows, width_of=widths[-1] if widths else None)

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        sizes = widths_of_users(site)
        flat = args[1:] if site.node.op == "call_method" else args
        last = flat[-1][-1] if isinstance(flat[-1], (tuple, list)) else flat[-1]
        if not isinstance(last, int) or not sizes:
            return args, kwargs
        size = sizes.pop()
        if isinstance(flat[-1], (tuple, list)):
            return (*args[:-1], (*flat[-1][:-1], size)), kwargs
        return (*args[:-1], size), kwargs


@register_op
class TakeHead(OpDef):
    """One column per row, by head: every head stays."""

    name = "take-head"
    targets = (take_head,)

    def infer(self, site: Site) -> Any:
        t = site.irreps(0)
        return IrrepsType((Segment(1, 0, 1),), Layout.ROWS, t.space)

    def couple(self, site: Site, c: Coupler) -> None:
        c.fixed(c.operand(0), "one column per head")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert nz[0] is not None
        return np.array([bool(nz[0].any())])

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None and nz[0] is not None
        return [np.full(len(nz[0]), bool(need.any())), None], {}


@register_op
class MaskHead(OpDef):
    """Columns of other heads zeroed; each head keeps the same columns, so that heads stay equal."""

    name = "mask-head"
    targets = (mask_head,)

    def infer(self, site: Site) -> Any:
        return site.irreps(0)

    def couple(self, site: Site, c: Coupler) -> None:
        c.same(c.operand(0), c.out)
        heads = int(site.node.args[2])  # type: ignore[arg-type]
        rows = c.out.reshape(heads, -1)
        for h in range(1, heads):
            c.same(rows[0], rows[h])
