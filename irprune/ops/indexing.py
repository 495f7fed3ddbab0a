"""Parts of a value: rows by an index, units by constant bounds, items of tuples and of shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import fx

from irprune.errors import IrrepsTypeError, UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout, Segment, Space
from irprune.ops.base import Keep, LayoutRole, Other, Site, register_op
from irprune.ops.passing import Passing
from irprune.ops.structure import shape_entry

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
