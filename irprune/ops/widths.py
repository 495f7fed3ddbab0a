"""Targets and indexes of scattered sums: calls that hold the width of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from irprune.errors import ExactnessError, UnknownForm
from irprune.irreps import BoolMask
from irprune.ops.base import Cost, Keep, OpDef, Other, Site, register_op
from irprune.ops.structure import Unrelated

if TYPE_CHECKING:
    from irprune.blocks import Coupler


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


def with_width(site: Site, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with a constant width replaced by that of the sliced result that reads it."""
    sizes = widths_of_users(site)
    if len(args) == 2 and isinstance(args[1], (tuple, list)) and isinstance(args[1][-1], int):
        return (args[0], (*args[1][:-1], sizes.pop())) if sizes and args[1][-1] > 0 else args
    if len(args) > 2 and isinstance(args[-1], int) and args[-1] > 0 and sizes:
        return (*args[:-1], sizes.pop())
    return args


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
class WideIndex(OpDef):
    """An index as wide as the rows that it sends: ``index[:, None].expand_as(src)``."""

    name = "index-wide"
    holds_width = True
    targets = ("method:expand", "method:expand_as", "method:repeat")

    def infer(self, site: Site) -> Any:
        t = site.types[0]
        if isinstance(t, Other) and t.kind == "index-column":
            return Other("index-wide", rows=t.rows)
        raise UnknownForm(
            f"{site.where} repeats {site.operands[0].name}: {t}; known is an index with one column"
        )

    def couple(self, site: Site, c: Coupler) -> None:
        return None

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        return None

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return with_width(site, args), kwargs

    def cost(self, site: Site, keep: Keep) -> Cost:
        return Cost()
