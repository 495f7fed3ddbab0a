"""The training loss: Huber terms of energy per atom, force components and stress components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from irprune.errors import UsageError
from irprune.evaluate.potential import Prediction
from irprune.recover.targets import Examples

DELTA = {"energy": 0.01, "forces": 0.01, "stress": 0.001}
"""Where the Huber loss turns from quadratic to linear: eV per atom, eV/Å, eV/Å³."""


@dataclass(frozen=True)
class Weights:
    """Weight of each term: Σ weight · Huber(error) / delta, about the mean absolute error."""

    energy: float = 1.0
    """Per eV/atom."""
    forces: float = 1.0
    """Per eV/Å."""
    stress: float = 0.0
    """Per eV/Å³."""

    def __post_init__(self) -> None:
        values = (self.energy, self.forces, self.stress)
        if min(values) < 0 or not sum(values) > 0:
            raise UsageError(
                "loss weights must not be negative, and one must be positive,"
                f" got energy {self.energy}, forces {self.forces}, stress {self.stress}"
            )


@dataclass(frozen=True, eq=False)
class Loss:
    """The total to differentiate, and mean absolute errors (NaN where nothing was compared)."""

    total: Tensor
    energy_mae: float
    """eV/atom."""
    force_mae: float
    """eV/Å."""
    stress_mae: float
    """eV/Å³."""


def loss_of(prediction: Prediction, examples: Examples, weights: Weights) -> Loss:
    """Compares what is labelled; structures without a volume have no stress term."""
    n = examples.batch.n_atoms.to(prediction.energy)
    errors = {"energy": (prediction.energy / n, examples.energy / n)}
    if prediction.forces is not None:
        errors["forces"] = (prediction.forces, examples.forces)
    if prediction.stress is not None:
        solid = examples.batch.volume > 0
        errors["stress"] = (prediction.stress[solid], examples.stress[solid])
    total = prediction.energies.sum() * 0.0
    mae = dict.fromkeys(DELTA, float("nan"))
    for name, (found, wanted) in errors.items():
        known = ~torch.isnan(wanted)
        if bool(known.any()):
            found, wanted = found[known], wanted[known]
            term = huber_loss(found, wanted, delta=DELTA[name]) / DELTA[name]
            total = total + getattr(weights, name) * term
            mae[name] = float((found - wanted).detach().abs().mean())
    return Loss(total, mae["energy"], mae["forces"], mae["stress"])
