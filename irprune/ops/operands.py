"""What the operands of a call are together: over the same rows, laid alike, scalars, constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from irprune.errors import IrrepsTypeError, UnknownForm
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import LayoutRole, Other, Site


def join_space(site: Site, a: IrrepsType, b: IrrepsType) -> Space:
    """The rows that two operands share.

    Raises:
        IrrepsTypeError: they lie over different rows; names both.
    """
    if Space.ANY in (a.space, b.space):
        return b.space if a.space is Space.ANY else a.space
    if a.space is not b.space:
        names = " and ".join(o.name for o in site.operands)
        raise IrrepsTypeError(
            f"{site.where} combines values over different rows: {names} are {a} and {b}"
        )
    return a.space


def all_scalar(t: IrrepsType) -> bool:
    """Whether every unit has l = 0."""
    return all(s.l == 0 for s in t)


def is_single(t: Any) -> bool:
    """One invariant scalar per row, with or without a feature axis."""
    return isinstance(t, IrrepsType) and t.n_units == 1 and t.unit_irs[0] == (0, 1)


def anyhow(types: Sequence[IrrepsType]) -> LayoutRole:
    """Of a call that takes rows together component by component: any layout, if they lie alike."""
    alike = all(t.same_rows(types[0]) for t in types)
    return LayoutRole.ANY if alike else LayoutRole.FIXED


def constant(site: Site) -> Other:
    """The type of arithmetic on constants alone.

    Raises:
        UnknownForm: operands that are no numbers or tensors of known shape.
    """
    shapes = [shape_of(t) for t in site.types]
    if any(s is None for s in shapes):
        raise UnknownForm(f"{site.where} computes with {', '.join(map(str, site.types))}")
    shape = tuple(torch.broadcast_shapes(*(s for s in shapes if s is not None)))
    return Other("param", shape=shape) if shape else Other("const")


def shape_of(t: Any) -> tuple[int, ...] | None:
    """The shape of a constant; () for a number, None where it is not known."""
    if isinstance(t, Other) and t.kind == "const":
        return ()
    return t.shape if isinstance(t, Other) and t.kind == "param" else None


def only_constants(site: Site) -> None:
    """Operands without irreps must be numbers or tensors of known shape.

    Raises:
        UnknownForm: another one, such as an index or a boolean mask.
    """
    for o, t in zip(site.operands, site.types, strict=True):
        if not isinstance(t, IrrepsType) and shape_of(t) is None:
            raise UnknownForm(f"{site.where} computes with {o.name}, which is {t}")
