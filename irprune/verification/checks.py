"""Check: one measured value beside its tolerance. Needs no torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One measured value beside its tolerance. ``ok`` is ``value <= tolerance``; NaN is not."""

    name: str
    value: float
    tolerance: float
    ok: bool
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; a value that is not finite becomes a string, as JSON has none."""
        out = asdict(self)
        if not math.isfinite(self.value):
            out["value"] = str(self.value)
        return out

    def __str__(self) -> str:
        mark = "ok" if self.ok else "FAILED"
        line = f"{self.name}: {self.value:.3g} (tolerance {self.tolerance:.3g}) {mark}"
        return f"{line}; {self.detail}" if self.detail else line


def make_check(name: str, value: float, limit: float, detail: str = "") -> Check:
    """A Check with ``ok`` set; values that are NaN fail."""
    value = float(value)
    return Check(name, value, float(limit), bool(value <= limit), detail)


def worse(a: float, b: float) -> float:
    """The larger value, NaN if either is."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def worst_of(values: Iterable[float]) -> float:
    """The largest value, NaN if any is: ``max`` overlooks one that is not the first. 0 of none."""
    return functools.reduce(worse, values, 0.0)
