"""What a report says, as plain values: the HTML page and the terminal table show the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irprune.picture.model import Picture

Scores = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Row:
    """One quantity, a value for each model (None where it was not measured)."""

    quantity: str
    unit: str
    values: tuple[float | None, ...]
    compare: bool = False
    """Whether to show each value's ratio to that of the first model."""


@dataclass(frozen=True)
class Importance:
    """What a criterion says about one model."""

    criterion: str
    blocks: Scores
    """layer → irrep (``1e``) → score of each block."""
    layers: Mapping[str, float | None] = field(default_factory=dict)
    """Sum over all that can be removed in a layer."""
    elements: Mapping[str, float | None] = field(default_factory=dict)
    """The same, with structures weighted by their share of the element's atoms."""
    structures: int | None = None
    """How many it looked at; None where it needs none."""
    given: int | None = None
    """Of how many; None where they were generated."""
    stability: float | None = None
    """Spearman's rank correlation between two halves of the structures."""

    @property
    def seen(self) -> str:
        """``24 of 1402 structures``; no text where it needs none."""
        return structures_seen(self.structures, self.given)


def structures_seen(structures: int | None, given: int | None) -> str:
    """``24 of 1402 structures``; no ``of`` where all were, and no text where none was needed."""
    if structures is None:
        return ""
    some = "" if given in (None, structures) else f" of {given}"
    return f"{structures}{some} structures"


@dataclass(frozen=True)
class Report:
    """One run: models side by side, structure, scores, recovery, checks, passes."""

    title: str
    models: tuple[str, ...]
    """Column headings, the original first."""
    rows: tuple[Row, ...]
    summary: str = ""
    irreps: tuple[Mapping[str, str], ...] = ()
    """For each of the models shown in the structure picture: layer → irreps."""
    irreps_names: tuple[str, ...] = ()
    scores: Scores = field(default_factory=dict)
    """layer → irrep (``1e``) → score of each block."""
    kept: Mapping[str, Mapping[str, Sequence[bool]]] = field(default_factory=dict)
    """As ``scores``: whether the block was kept."""
    pictures: tuple[Picture, ...] = ()
    """Graphs laid out by layer: one model, or before and after."""
    importance: Importance | None = None
    """Pictures of scores in detail, where they were asked for."""
    curve: tuple[tuple[float, float], ...] = ()
    """(step, loss) of the recovery."""
    checks: tuple[Mapping[str, Any], ...] = ()
    """name, value, tolerance, ok."""
    passes: tuple[Mapping[str, Any], ...] = ()
    """As ``PassReport.to_json``; ``changes`` as ``irprune.debugging.changes.ChangeLog`` has them."""
    profile: tuple[Mapping[str, Any], ...] = ()
    """For each model: as ``Profile.to_json``; ``nodes`` are those to show. Empty: none was timed."""
    ratios: tuple[float, ...] = ()
    """Call of the second model over that of the first, within each round of timing them in turn."""
    pipeline: str = ""
    tier: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.values) != len(self.models):
                raise ValueError(
                    f"row {row.quantity!r} has {len(row.values)} values"
                    f" for {len(self.models)} models"
                )
        if self.profile and len(self.profile) != len(self.models):
            raise ValueError(f"{len(self.profile)} profiles for {len(self.models)} models")

    @property
    def ok(self) -> bool:
        return all(c["ok"] for c in self.checks)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def number(value: float | None) -> str:
    """A number as people read it: 842,440, 3.2 M only where exact digits do not matter."""
    if value is None:
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) and size < 1e7:
        return f"{int(value):,}"
    for limit, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if size >= limit:
            return f"{value / limit:.3g} {mark}"
    if size >= 1e5:
        return f"{value:,.0f}"
    if size >= 1e-3 or size == 0:
        return f"{value:.4g}"
    return f"{value:.2e}"


def ratio(value: float | None, first: float | None) -> str:
    """``×0.42``, or nothing where there is nothing to compare."""
    if value is None or first is None or not first or value is first:
        return ""
    return f"×{value / first:.3g}"
