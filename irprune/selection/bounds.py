"""Bounds on what may go: how many groups an axis keeps, in multiples of what, and what stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from irprune.blocks import Axis
from irprune.errors import LegalityError, UsageError

_IR = re.compile(r"(\d+)[eo]")
_BY_ORDER = re.compile(r"\d+:\d+(\+\d+:\d+)*")


def order_of(axis: Axis) -> int | None:
    """The l of the copies of an irrep; None for axes that count something else."""
    match = _IR.fullmatch(axis.ir) if axis.kind == "channel" else None
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Bounds:
    """What every structure that is chosen must have."""

    minimum: int = 1
    """Steps that every pool keeps: groups of an axis, or of every axis of a tie."""
    by_order: Mapping[int, int] = field(default_factory=dict)
    """l → groups that every axis of that order keeps; for other axes ``minimum`` holds."""
    align: int = 1
    """Kept groups of an axis are a multiple of it."""
    protect: tuple[str, ...] = ()
    """Patterns of names of axes, ties and layers of which nothing goes."""

    def __post_init__(self) -> None:
        if self.minimum < 0:
            raise UsageError(f"select: minimum must be 0 or more, got {self.minimum}")
        if self.align < 1:
            raise UsageError(f"select: align must be 1 or more, got {self.align}")

    def removals(self, pool: str, members: Sequence[tuple[Axis, int]], steps: int) -> list[int]:
        """How many of the ``steps`` of a pool may be gone, ascending.

        Raises:
            LegalityError: none of these numbers leaves a multiple of ``align``; names the axis.
        """
        floor = {a.name: self.least(a) for a, _ in members}
        whole = any(a.kind in ("edge", "order") for a, _ in members)  # orders are not aligned

        def fits(gone: int) -> bool:
            return all(len(a.groups) - gone * per >= floor[a.name] for a, per in members)

        most = steps - self.minimum
        possible = [n for n in range(steps + 1) if not n or (n <= most and fits(n))]
        found = possible if whole else [n for n in possible if self._aligned(members, n)]
        if not found:
            sizes = " and ".join(f"{len(a.groups)} groups of {a.name}" for a, _ in members[:2])
            least = max(self.minimum, *floor.values())
            raise LegalityError(
                f"select: align={self.align} cannot be met in {pool}: no multiple of {self.align}"
                f" can stay of {sizes} (at least {least} {'stays' if least == 1 else 'stay'});"
                f" lower align or minimum, or protect the axis: protect=[{members[0][0].name}]"
            )
        return found

    def least(self, axis: Axis) -> int:
        """Groups that stay of an axis by its order; 0 where its order is not named."""
        order = order_of(axis)
        return self.by_order.get(order, 0) if order is not None else 0

    def _aligned(self, members: Iterable[tuple[Axis, int]], gone: int) -> bool:
        left = [len(a.groups) - gone * per for a, per in members]
        return self.align == 1 or all(n % self.align == 0 and n > 0 for n in left)

    def check_orders(self, axes: Iterable[Axis]) -> None:
        """
        Raises:
            UsageError: a minimum for an order that no axis has.
        """
        known = sorted({o for a in axes if (o := order_of(a)) is not None})
        unknown = [str(o) for o in self.by_order if o not in known]
        if unknown:
            raise UsageError(
                f"select: minimum names l = {', '.join(unknown)}, which no axis has; this graph has"
                f" l = {', '.join(map(str, known))}"
            )


def protected(
    patterns: Sequence[str], names: Mapping[str, Sequence[str]], layers: Mapping[str, str]
) -> set[str]:
    """Axes that patterns name, ``*`` and ``?`` as in a shell.

    Args:
        patterns: each matches names of axes, of ties, or of layers.
        names: axis → all names that it can be called by.
        layers: what layers are called, for the error.

    Raises:
        UsageError: a pattern that matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        mine = {a for a, called in names.items() if any(fnmatchcase(n, pattern) for n in called)}
        if not mine:
            known = ", ".join(list(names)[:4])
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise UsageError(
                f"select: protect={pattern} matches no axis, tie or layer; axes are {known}{more}"
                + (f"; layers are {', '.join(layers)}" if layers else "")
                + " (irprune show --groups lists all)"
            )
        found |= mine
    return found


def read_minimum(value: int | str) -> tuple[int, dict[int, int]]:
    """``8`` → (8, {}); ``0:16+1:8`` → (1, {0: 16, 1: 8}).

    Raises:
        UsageError: neither.
    """
    if isinstance(value, int):
        return value, {}
    if not _BY_ORDER.fullmatch(value):
        raise UsageError(
            "select: minimum is a number, or one per order as l:n joined by +, such as 0:16+1:8;"
            f" got {value!r}"
        )
    pairs = [part.split(":") for part in value.split("+")]
    found = {int(o): int(n) for o, n in pairs}
    if len(found) < len(pairs):
        raise UsageError(f"select: minimum={value} names an order twice")
    return 1, found
