"""A model in training: steps move its parameters, validations measure their averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irprune.errors import CheckFailed
from irprune.recover.learner import Learner
from irprune.recover.objective import Objective
from irprune.recover.result import Row
from irprune.recover.targets import Examples


@dataclass(frozen=True, eq=False)
class Student:
    """What is trained, how it moves, and what it is measured by."""

    parameters: Mapping[str, nn.Parameter]
    learner: Learner
    objective: Objective
    clip: float
    """Largest norm of the gradient."""

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.objective.model.device

    def step(self, step: int, rate: float, batches: Sequence[Examples]) -> Row:
        """Moves the parameters by one step at this learning rate.

        Raises:
            CheckFailed: the loss or its gradient is not finite; nothing has moved.
        """
        found, gradients = self.objective.gradients(batches, list(self.parameters.values()))
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])))
        if not math.isfinite(norm) or not math.isfinite(found.loss):
            raise CheckFailed(
                f"training diverged at step {step}: loss {found.loss:.3g}, gradient norm"
                f" {norm:.3g}; lower the learning rate (now {rate:.2g})"
            )
        scale = min(1.0, self.clip / max(norm, 1e-12))
        self.learner.step([g * scale for g in gradients], rate)
        return Row(step, found.loss, rate, norm, found.errors)

    def validate(self, step: int, rate: float, batches: Sequence[Examples]) -> Row:
        """Errors of the averaged weights after a step that had this learning rate.

        Raises:
            CheckFailed: the loss is not finite.
        """
        with self.learner.averaged():
            found = self.objective.measure(batches)
        if not math.isfinite(found.loss):
            raise CheckFailed(
                f"training diverged: the loss on the held-out structures is {found.loss:.3g} after"
                f" step {step}; lower the learning rate (now {rate:.2g}), or remove"
                " held-out structures with atoms on top of each other"
            )
        return Row(step, found.loss, rate, 0.0, found.errors)

    def averages(self) -> dict[str, Tensor]:
        """A copy of the averaged weights."""
        with self.learner.averaged():
            return {k: p.detach().clone() for k, p in self.parameters.items()}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Overwrites the parameters."""
        for name, p in self.parameters.items():
            p.copy_(weights[name])

    def resume(self, weights: Mapping[str, Tensor], learner: Mapping[str, Any]) -> None:
        """Parameters and optimizer as they were saved."""
        self.set_weights(weights)
        self.learner.load(learner)
