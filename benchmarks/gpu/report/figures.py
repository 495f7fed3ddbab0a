"""What the rows of kernels.json say together: against other backends, the original, the memory."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.failures import OURS

Row = Mapping[str, Any]
FULL, PRUNED, BANDWIDTH = 1.0, 1.3, 0.7
"""Aims: of the best other backend's time over ours on whole and on pruned shapes, and the share of the
bandwidth of a copy.
"""


@dataclass(frozen=True)
class Aim:
    """Numbers of several rows, and how many of them reach what was aimed at."""

    what: str
    goal: float
    found: tuple[float, ...]

    @property
    def reached(self) -> int:
        return sum(x >= self.goal for x in self.found)

    def __str__(self) -> str:
        if not self.found:
            return f"{self.what}: nothing was measured (aim {self.goal:g})"
        low, middle, high = min(self.found), statistics.median(self.found), max(self.found)
        return (
            f"{self.what}: {middle:.2f} in the middle, {low:.2f} to {high:.2f}; {self.reached} of"
            f" {len(self.found)} reach the aim of {self.goal:g}"
        )


def ours(times: Mapping[str, float]) -> float | None:
    """The fastest of ours in either layout."""
    return min((t for name, t in times.items() if name.startswith(OURS)), default=None)


def best_other(times: Mapping[str, float]) -> tuple[str, float] | None:
    """The fastest of all others, and which it is."""
    others = {name: t for name, t in times.items() if not name.startswith(OURS)}
    return min(others.items(), key=lambda item: item[1], default=None)


def ratio(row: Row, mode: str) -> float | None:
    """The best other's time over ours, in the faster of both layouts; None where one has none."""
    found: Mapping[str, float] = row.get("best_other_over_triton", {}).get(mode, {})
    return max(found.values(), default=None)


def against_whole(rows: Sequence[Row], row: Row, mode: str) -> float | None:
    """The best other's time on the whole layer over ours on what is left of it."""
    whole = next((r for r in rows if r["layer"] == row["layer"] and r["keep"] == 1.0), None)
    other = best_other(whole.get("ns_per_row", {}).get(mode, {})) if whole else None
    mine = ours(row.get("ns_per_row", {}).get(mode, {}))
    return None if mine is None or other is None else other[1] / mine


def aims(rows: Sequence[Row], modes: Sequence[str]) -> list[Aim]:
    """What was aimed at, mode by mode, and what was found."""

    def gather(given: Sequence[float | None]) -> tuple[float, ...]:
        return tuple(x for x in given if x is not None)

    whole = [r for r in rows if r["keep"] == 1.0]
    pruned = [r for r in rows if r["keep"] < 1.0]
    found = []
    for mode in modes:
        name = "the best other backend's time over ours"
        found.append(Aim(f"whole, {mode}, {name}", FULL, gather([ratio(r, mode) for r in whole])))
        found.append(
            Aim(f"pruned, {mode}, {name}", PRUNED, gather([ratio(r, mode) for r in pruned]))
        )
    forward = gather([share(r) for r in rows])
    return [*found, Aim("forward, share of the bandwidth of a copy", BANDWIDTH, forward)]


def share(row: Row) -> float | None:
    """Of the bandwidth of a copy: the most that ours reach forward, in either layout."""
    found = row.get("share_of_bandwidth", {})
    return max((s for name, s in found.items() if name.startswith(OURS)), default=None)
