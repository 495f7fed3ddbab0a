"""Settings of a training run: everything that decides what comes out, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from irprune.errors import UsageError

STEPS = 200
"""Where neither steps nor epochs are given."""


@dataclass(frozen=True)
class Settings:
    """What a run does. The same settings, data and student give the same weights on the same machine,
    unless a deadline cuts the run short.
    """

    steps: int | None = None
    """Optimizer steps, 1 or more; 200 if epochs are not given either."""
    epochs: float | None = None
    """Passes over the data, instead of steps."""
    batch: int = 8
    """Structures per process in one forward pass."""
    accumulate: int = 1
    """Forward passes per optimizer step: equal to a batch that many times as large."""
    lr: float = 2e-3
    """Peak learning rate."""
    optimizer: Literal["adamw", "schedule-free"] = "adamw"
    """schedule-free averages by itself: no decay of the rate, and no ema."""
    warmup: float = 0.05
    """Share of the run in which the rate rises linearly."""
    decay: Literal["cosine", "constant"] = "cosine"
    """cosine falls to 1 % of the peak."""
    ema: float = 0.99
    """Decay of the moving average of the weights; 0 uses the last ones."""
    clip: float = 10.0
    """Largest norm of the gradient of all parameters."""
    weight_decay: float = 0.0
    """Of the optimizer."""
    precision: Literal["model", "bf16"] = "model"
    """bf16: matrix products in bfloat16 where torch's autocast makes them so."""
    learn: Literal["auto", "teacher", "labels", "both"] = "auto"
    """auto: the teacher where there is one, else the labels of the data."""
    label_share: float = 0.5
    """Share of the labels in the loss, of what is learned from both."""
    loss: Literal["huber", "mse"] = "huber"
    """huber: like mean absolute errors where errors are large; mse: squares."""
    energy_weight: float = 1.0
    """Per eV/atom."""
    force_weight: float = 1.0
    """Per eV/Å."""
    stress_weight: float = 0.0
    """Per eV/Å³; 0 computes no stress."""
    node_energy_weight: float = 0.0
    """Per eV, of the energy of each atom (teacher only)."""
    feature_weight: float = 0.0
    """Of the features after each layer, in units of their spread (teacher only)."""
    hessian_weight: float = 0.0
    """Per eV/Å², of the derivative of forces along a random direction (teacher only)."""
    max_force: float = 50.0
    """eV/Å; structures with a larger force are left out, and counted."""
    valid: float = 0.0
    """Share of the data that is held out: errors after each epoch, and the best weights win."""
    group: str | None = None
    """Key of info: structures with the same value are held out together."""
    workers: int = 0
    """Processes that make neighbour lists; 0 makes and keeps them in this one."""
    deadline: float | None = None
    """Seconds after which training stops; the rate then follows the clock."""
    save_every: int = 100
    """Steps between two savings of the state, where there is a run folder."""

    def check(self) -> None:
        """
        Raises:
            UsageError: a value that makes no sense; names it.
        """
        wrong = [f"{name}={getattr(self, name)}" for name, fine in self._rules() if not fine]
        if wrong:
            raise UsageError(f"recover: values that make no sense: {', '.join(wrong)}")
        if self.steps is not None and self.epochs is not None:
            raise UsageError(
                f"recover: give steps or epochs, not both (steps={self.steps},"
                f" epochs={self.epochs:g})"
            )
        weights = [getattr(self, name) for name in WEIGHTS]
        if min(weights) < 0 or not sum(weights) > 0:
            named = ", ".join(f"{n}={w:g}" for n, w in zip(WEIGHTS, weights, strict=True))
            raise UsageError(
                f"recover: loss weights must not be negative, and one must be positive: {named}"
            )

    def _rules(self) -> list[tuple[str, bool]]:
        return [
            ("steps", self.steps is None or self.steps >= 1),
            ("epochs", self.epochs is None or self.epochs > 0),
            ("batch", self.batch >= 1),
            ("accumulate", self.accumulate >= 1),
            ("lr", self.lr > 0 and math.isfinite(self.lr)),
            ("warmup", 0 <= self.warmup < 1),
            ("ema", 0 <= self.ema < 1),
            ("clip", self.clip > 0),
            ("weight_decay", self.weight_decay >= 0),
            ("label_share", 0 <= self.label_share <= 1),
            ("valid", 0 <= self.valid < 1),
            ("workers", self.workers >= 0),
            ("deadline", self.deadline is None or self.deadline > 0),
            ("save_every", self.save_every >= 1),
            *(
                (name, getattr(self, name) in known)
                for name, known in (
                    ("optimizer", ("adamw", "schedule-free")),
                    ("decay", ("cosine", "constant")),
                    ("precision", ("model", "bf16")),
                    ("learn", ("auto", "teacher", "labels", "both")),
                    ("loss", ("huber", "mse")),
                )
            ),
        ]

    def total_steps(self, n: int, size: int) -> int:
        """Optimizer steps on ``n`` structures, ``size`` of them per step."""
        if self.epochs is not None:
            return math.ceil(self.epochs * n / size)
        return STEPS if self.steps is None else self.steps

    def to_json(self) -> dict[str, Any]:
        """Plain values; what they decide is the same run."""
        return asdict(self)


WEIGHTS = (
    "energy_weight",
    "force_weight",
    "stress_weight",
    "node_energy_weight",
    "feature_weight",
    "hessian_weight",
)
FREE = ("workers", "deadline", "save_every", "batch", "accumulate")
"""What may change when a run is resumed: it decides how, not what is computed. The product of batch,
accumulation and processes is compared; a run with a deadline follows the clock anyway."""
