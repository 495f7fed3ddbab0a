"""IrrepsType: which irreps a tensor carries, in which order, layout and index space.

A *unit* is one copy of one irrep (a block (k, l) of the literature): the 2l+1 components that are
kept or removed together. The units of a type are numbered segment by segment, copy by copy. This
module needs neither torch nor e3nn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irprune.errors import UsageError

BoolMask = NDArray[np.bool_]

_TERM = re.compile(r"^(?:(\d+)\s*x\s*)?(\d+)\s*([eo])$")


class Layout(str, Enum):
    """How the units of a type lie in a tensor whose first axis is the index space."""

    MUL_IR = "mul_ir"
    """[rows, Σ mul·(2l+1)], e3nn's flat layout: copy by copy, components contiguous."""
    IR_MUL = "ir_mul"
    """[rows, Σ (2l+1)·mul], what kernels for GPUs read, and cuEquivariance's other flat layout: within
    a segment component by component, copies contiguous."""
    ROWS = "rows"
    """[rows]: one scalar per row, without a feature axis."""
    MUL_X_DIM = "mul_x_dim"
    """[rows, k, Σ (2l+1)], MACE's message layout: every segment has the same k copies."""


FLAT = (Layout.MUL_IR, Layout.IR_MUL)
"""Layouts of two axes, all units of a row side by side."""


def flat_layout(layout: Layout | str) -> Layout:
    """A flat layout by its name.

    Raises:
        UsageError: it is none of mul_ir and ir_mul.
    """
    for known in FLAT:
        if layout == known.value:
            return known
    name = layout.value if isinstance(layout, Layout) else layout
    raise UsageError(f"unknown layout {name!r} of flat rows; known are mul_ir, ir_mul")


class Space(str, Enum):
    """What the rows of a tensor stand for."""

    NODE = "node"
    EDGE = "edge"
    PAIR = "pair"
    """An edge and its reverse."""
    GRAPH = "graph"
    ANY = "any"


class Segment(NamedTuple):
    """``mul`` copies of the irrep (l, p), p = ±1."""

    mul: int
    l: int  # noqa: E741 - the field's name for the order
    p: int

    @property
    def dim(self) -> int:
        """Components of one copy."""
        return 2 * self.l + 1

    @property
    def ir(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    def __str__(self) -> str:
        return f"{self.mul}x{self.ir}"


@dataclass(frozen=True)
class IrrepsType:
    """Ordered segments, a layout and an index space; equal only if all three are.

    Never simplified silently: ``2x0e+3x0e`` and ``5x0e`` are different types, although they have the
    same units (``same_units``), which is what a linear map may rely on. Where both flat layouts are
    the same in memory (scalars, single copies), ``ir_mul`` becomes ``mul_ir``.
    """

    segments: tuple[Segment, ...]
    layout: Layout = Layout.MUL_IR
    space: Space = Space.NODE

    def __post_init__(self) -> None:
        if self.layout is Layout.IR_MUL and self.orderless:
            object.__setattr__(self, "layout", Layout.MUL_IR)
        if self.layout is Layout.MUL_X_DIM and len({s.mul for s in self.segments}) > 1:
            raise UsageError(
                "layout mul_x_dim needs the same number of channels in every order, got"
                f" {self.irreps}"
            )

    @classmethod
    def parse(
        cls, text: str, space: Space = Space.NODE, layout: Layout = Layout.MUL_IR
    ) -> IrrepsType:
        """Reads ``128x0e+64x1o``.

        Raises:
            UsageError: a term that is not ``[MUL x] L (e|o)``; names the term.
        """
        segments = []
        for term in filter(None, (t.strip() for t in str(text).split("+"))):
            match = _TERM.match(term)
            if match is None:
                raise UsageError(
                    f"cannot read irreps {text!r}: {term!r} is not of the form 64x1o"
                    " (multiplicity, x, order l, parity e or o)"
                )
            mul, order, parity = match.groups()
            segments.append(Segment(int(mul) if mul else 1, int(order), 1 if parity == "e" else -1))
        return cls(tuple(segments), layout, space)

    @classmethod
    def of(
        cls,
        segments: Iterable[tuple[int, int, int]],
        space: Space = Space.NODE,
        layout: Layout = Layout.MUL_IR,
    ) -> IrrepsType:
        """From (mul, l, p) triples."""
        return cls(tuple(Segment(*s) for s in segments), layout, space)

    @classmethod
    def scalars(cls, n: int, space: Space = Space.NODE) -> IrrepsType:
        return cls((Segment(n, 0, 1),), Layout.MUL_IR, space)

    @property
    def irreps(self) -> str:
        return "+".join(map(str, self.segments))

    def __str__(self) -> str:
        mark = "" if self.layout is Layout.MUL_IR else f" {self.layout.value}"
        return f"{self.space.value}[{self.irreps}{mark}]"

    @property
    def is_flat(self) -> bool:
        """Whether a row has one axis, of all components."""
        return self.layout in FLAT

    @property
    def orderless(self) -> bool:
        """Whether ``mul_ir`` and ``ir_mul`` lie in memory alike."""
        return all(s.l == 0 or s.mul <= 1 for s in self.segments)

    @cached_property
    def n_units(self) -> int:
        return sum(s.mul for s in self.segments)

    @cached_property
    def dim(self) -> int:
        """Components of one row over all units."""
        return sum(s.mul * s.dim for s in self.segments)

    def in_layout(self, layout: Layout) -> IrrepsType:
        """A flat type in another flat layout; ``mul_ir`` where both are the same numbers.

        Raises:
            UsageError: this type or the layout is not flat.
        """
        if not self.is_flat:
            raise UsageError(f"{self} is not flat: it has no layout {layout.value}")
        return replace(self, layout=flat_layout(layout))

    @property
    def lmax(self) -> int:
        return max((s.l for s in self.segments), default=-1)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First unit of each segment, and the number of units at the end."""
        out = [0]
        for s in self.segments:
            out.append(out[-1] + s.mul)
        return tuple(out)

    def units(self, segment: int) -> slice:
        return slice(self.starts[segment], self.starts[segment + 1])

    def split(self, mask: BoolMask) -> list[BoolMask]:
        """A unit mask, cut at the segments."""
        return [mask[self.units(i)] for i in range(len(self.segments))]

    @cached_property
    def unit_dims(self) -> NDArray[np.int64]:
        """Components of each unit, [n_units]."""
        return np.repeat([s.dim for s in self.segments], [s.mul for s in self.segments]).astype(
            np.int64
        )

    @cached_property
    def unit_irs(self) -> tuple[tuple[int, int], ...]:
        """(l, p) of each unit."""
        return tuple((s.l, s.p) for s in self.segments for _ in range(s.mul))

    @cached_property
    def component_units(self) -> NDArray[np.int64]:
        """The unit of every component of a flat row, in the order of the layout, [dim]."""
        units = np.arange(self.n_units)
        if self.layout is not Layout.IR_MUL:
            return np.repeat(units, self.unit_dims)
        runs = [np.tile(units[self.units(i)], s.dim) for i, s in enumerate(self.segments)]
        return np.concatenate(runs) if runs else units

    @property
    def by_copy(self) -> NDArray[np.int64]:
        """Places in a flat row of all components, copy by copy as in ``mul_ir``, [dim]."""
        return np.argsort(self.component_units, kind="stable")

    def components(self, mask: BoolMask) -> BoolMask:
        """A unit mask widened to components in the flat order of the layout, [dim]."""
        return mask[self.component_units]

    def same_units(self, other: IrrepsType) -> bool:
        """Same layout, the same sequence of irreps and the same places in a row.

        How the segments are split makes a difference in ``ir_mul`` only.
        """
        if self.layout is not other.layout or self.unit_irs != other.unit_irs:
            return False
        return self.layout is not Layout.IR_MUL or np.array_equal(
            self.component_units, other.component_units
        )

    def same_rows(self, other: IrrepsType) -> bool:
        """Whether the units are the same and a row of both is the same numbers in ``ir_mul`` too."""
        return self.in_layout(Layout.IR_MUL).same_units(other.in_layout(Layout.IR_MUL))

    def kept(self, mask: BoolMask, drop_empty: bool = True) -> IrrepsType:
        """The type that remains of the units in ``mask``."""
        segments = (
            Segment(int(m.sum()), s.l, s.p)
            for s, m in zip(self.segments, self.split(mask), strict=True)
        )
        left = tuple(s for s in segments if s.mul or not drop_empty)
        if self.layout is Layout.IR_MUL:
            return IrrepsType(left, space=self.space).in_layout(Layout.IR_MUL)
        return replace(self, segments=left)

    def in_space(self, space: Space) -> IrrepsType:
        return self if space is self.space else replace(self, space=space)

    def counts(self) -> dict[str, int]:
        """Copies of each irrep, in order of first appearance."""
        out: dict[str, int] = {}
        for s in self.segments:
            out[s.ir] = out.get(s.ir, 0) + s.mul
        return out

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)
