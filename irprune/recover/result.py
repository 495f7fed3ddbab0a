"""What a training run did, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One training step, measured on its own structures before the step was made."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    errors: Mapping[str, float]
    """Mean absolute errors, by name with unit."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, flat; errors that were not measured become ``None``."""
        flat = {**asdict(self), **self.errors}
        del flat["errors"]
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in flat.items()
        }

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Row:
        """Inverse of ``to_json``."""
        own = {k: flat[k] for k in ("step", "loss", "lr", "grad_norm")}
        errors = {k: math.nan if v is None else v for k, v in flat.items() if k not in own}
        return cls(**own, errors=errors)


@dataclass(frozen=True)
class TrainResult:
    """What a run did; JSON-able through ``to_json``."""

    history: tuple[Row, ...]
    validation: tuple[Row, ...]
    """Loss and errors of the averaged weights on held-out structures, after each epoch."""
    steps: int
    """Steps done, those before a resumption included."""
    n_frames: int
    n_left_out: int
    """Structures with a force above the limit."""
    n_valid: int
    best: int | None
    """The step after which the weights were best on held-out structures, and which were used."""
    stopped: str
    """``steps`` or ``deadline``."""
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = {k: [r.to_json() for r in getattr(self, k)] for k in ("history", "validation")}
        return {**asdict(self), **rows, "settings": dict(self.settings)}
