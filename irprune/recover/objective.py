"""The loss of a student on batches that several processes share, and its gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from irprune.evaluation.potential import Potential
from irprune.recover.features import Watched
from irprune.recover.loss import Found, Term, compare, count, named_errors
from irprune.recover.parallel import Processes
from irprune.recover.targets import PROBE, Examples


@dataclass(frozen=True)
class Measured:
    """Over the structures of all processes."""

    loss: float
    errors: Mapping[str, float]
    """Mean absolute errors, by name with unit."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Compares what a student says with its targets; every process calls it with its own batches."""

    model: Potential
    terms: tuple[Term, ...]
    precision: Literal["model", "bf16"]
    processes: Processes

    def measure(self, batches: Sequence[Examples]) -> Measured:
        """Loss and errors alone; a process may have no batches."""
        counts, sums = self._counts(batches), self._no_sums()
        for examples in batches:
            total, absolute = self._compare(examples, counts, train=False)
            sums += torch.stack([total.detach().double(), *absolute])
        self.processes.add_up([sums])
        return self._measured(sums, counts)

    def gradients(
        self, batches: Sequence[Examples], parameters: Sequence[nn.Parameter]
    ) -> tuple[Measured, list[Tensor]]:
        """Loss and errors, and the derivative of the loss by each parameter."""
        counts, sums = self._counts(batches), self._no_sums()
        gradients = [torch.zeros_like(p) for p in parameters]
        for examples in batches:
            total, absolute = self._compare(examples, counts, train=True)
            found = torch.autograd.grad(total, parameters, allow_unused=True)
            for g, new in zip(gradients, found, strict=True):
                if new is not None:  # parameters of unseen elements have none
                    g += new
            sums += torch.stack([total.detach().double(), *absolute])
        self.processes.add_up([*gradients, sums])
        return self._measured(sums, counts), gradients

    def _measured(self, sums: Tensor, counts: Tensor) -> Measured:
        return Measured(float(sums[0]), named_errors(self.terms, sums[1:], counts))

    def _counts(self, batches: Sequence[Examples]) -> Tensor:
        """How many numbers each term compares, over all processes [terms]."""
        none = torch.zeros(len(self.terms), dtype=torch.float64)
        out = (count(self.terms, batches) if batches else none).to(self.model.device)
        self.processes.add_up([out])
        return out

    def _no_sums(self) -> Tensor:
        """Zeros for the loss, and for Σ |error| of each term."""
        return torch.zeros(1 + len(self.terms), dtype=torch.float64, device=self.model.device)

    def _compare(
        self, examples: Examples, counts: Tensor, train: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """This part of the loss, and Σ |error| of each term."""
        whats = {t.what for t in self.terms}
        with self._autocast():
            prediction = self.model.evaluate(
                examples.batch,
                forces="forces" in whats,
                stress="stress" in whats,
                create_graph=train,
                along=examples.targets[PROBE] if "hessian" in whats else None,
            )
        module = self.model.module
        seen = module.taken() if isinstance(module, Watched) and "features" in whats else {}
        return compare(self.terms, Found(prediction, examples.batch, seen), examples, counts)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "model":
            return contextlib.nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)
