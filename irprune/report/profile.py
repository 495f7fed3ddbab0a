"""What the profile of one or two models says: the same cells, bars and sentences everywhere.

Takes profiles as plain values, as ``irprune.profile.model.Profile.to_json`` gives them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLAIN = Mapping[str, Any]
HEADINGS = ("forward ms", "backward ms", "% of call", "MFLOP", "MB", "% of peak")
OUTSIDE = "outside nodes"
SMALL = 0.005
"""Ops with less than this share of the call, in all models, are drawn as one bar."""


@dataclass(frozen=True)
class Times:
    """A bar of one model, in seconds; either nodes or what is outside them."""

    forward: float = 0.0
    backward: float = 0.0
    outside: float = 0.0

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.outside


@dataclass(frozen=True)
class Group:
    """The bars of one op: one for each model, None where it has no such op."""

    label: str
    bars: tuple[Times | None, ...]


def millis(seconds: float) -> str:
    """``12.34``: two digits of a millisecond."""
    return f"{seconds * 1e3:.2f}"


def percent(share: float) -> str:
    """``12.3``, of a share of 1."""
    return f"{100 * share:.1f}"


def cells(row: PLAIN, call: float) -> list[str]:
    """A row of ``by_op`` or ``nodes`` under HEADINGS; ``call`` in seconds."""
    return [
        millis(row["forward"]),
        millis(row["backward"]),
        percent((row["forward"] + row["backward"]) / call),
        f"{row['flops'] / 1e6:.1f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{100 * row['share_of_peak']:.0f}",
    ]


def groups(profiles: Sequence[PLAIN]) -> list[Group]:
    """Bars of every op, the slowest first; then small ops together, and what no node took.

    The bars of a model add up to its call, unless its nodes by themselves take longer than that:
    then there is nothing outside them to draw.
    """
    found = [
        {r["op"]: Times(r["forward"], r["backward"]) for r in profile["by_op"]}
        for profile in profiles
    ]
    calls = [profile["seconds_call"] for profile in profiles]
    ops = dict.fromkeys(op for by_op in found for op in by_op)
    drawn: list[Group] = []
    small: list[Group] = []
    for op in ops:
        group = Group(op, tuple(by_op.get(op) for by_op in found))
        shares = [b.total / c for b, c in zip(group.bars, calls, strict=True) if b is not None]
        (drawn if max(shares) >= SMALL else small).append(group)
    drawn.sort(key=lambda g: -max(b.total for b in g.bars if b is not None))
    if len(small) == 1:
        drawn += small
    elif small:
        drawn.append(
            Group(
                f"{len(small)} other ops",
                tuple(map(_sum, zip(*(g.bars for g in small), strict=True))),
            )
        )
    outside = (profile["seconds_outside"] for profile in profiles)
    last = tuple(Times(outside=seconds) if seconds > 0 else None for seconds in outside)
    return [*drawn, Group(OUTSIDE, last)]


def _sum(bars: Sequence[Times | None]) -> Times | None:
    there = [b for b in bars if b is not None]
    if not there:
        return None
    return Times(sum(b.forward for b in there), sum(b.backward for b in there))


def told(profile: PLAIN) -> tuple[str, str]:
    """What was measured, and against which peaks: two sentences."""
    threads = f"{profile['threads']} thread{'' if profile['threads'] == 1 else 's'}"
    return (
        f"{profile['atoms']} atoms, {profile['edges']} edges, {threads}, {profile['dtype']}: one call"
        f" {millis(profile['seconds_call'])} ms, of which nodes {millis(profile['seconds_nodes'])} ms"
        f" and {OUTSIDE} {millis(profile['seconds_outside'])} ms; neighbour list"
        f" {millis(profile['seconds_neighbours'])} ms beside it; estimated by the cost model"
        f" {millis(profile['seconds_estimated'])} ms",
        f"peaks of this machine: {profile['peak_flops'] / 1e9:.1f} GFLOP/s (matrix product),"
        f" {profile['peak_bandwidth'] / 1e9:.1f} GB/s (copy)",
    )


def verdict(names: Sequence[str], ratios: Sequence[float]) -> str:
    """How the calls of two models compare, timed in turn."""
    rounds = f"{len(ratios)} round{'' if len(ratios) == 1 else 's'}"
    return (
        f"a call of {names[1]} takes {statistics.median(ratios):.3f} of the time of one of {names[0]}"
        f" ({rounds} in turn, {min(ratios):.3f} to {max(ratios):.3f})"
    )
