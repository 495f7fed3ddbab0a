"""Optimizers behind one interface: step, the weights to use in the end, and the state to save."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from irprune.errors import UsageError
from irprune.recover.average import Average
from irprune.recover.settings import Settings


class Learner(Protocol):
    """Moves parameters."""

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """One step with this learning rate."""
        ...

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Within it the parameters are those that the run would give."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


class Adam:
    """AdamW and an exponential moving average of the weights."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: Settings) -> None:
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.average = Average(parameters, settings.ema) if settings.ema else None

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        _step(self.optimizer, list(self.parameters.values()), gradients, rate)
        if self.average is not None:
            self.average.update(self.parameters)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        if self.average is None:
            yield
            return
        with _kept(self.parameters):
            self.average.write_to(self.parameters)
            yield

    def state(self) -> dict[str, Any]:
        out: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            out["average"], out["updates"] = self.average.values, self.average.updates
        return out

    def load(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            for name, value in self.average.values.items():
                value.copy_(state["average"][name])
            self.average.updates = int(state["updates"])


class ScheduleFree:
    """AdamW whose steps and averages need no schedule (Defazio et al., arXiv 2405.15682)."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: Settings) -> None:
        """
        Raises:
            UsageError: the package is not installed.
        """
        try:
            from schedulefree import AdamWScheduleFree
        except ImportError as error:
            raise UsageError(
                "optimizer=schedule-free needs the package schedulefree: pip install irprune[train]"
            ) from error
        self.parameters = parameters
        self.optimizer = AdamWScheduleFree(
            list(parameters.values()), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.optimizer.train()

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        _step(self.optimizer, list(self.parameters.values()), gradients, rate)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        with _kept(self.parameters):  # there and back rounds: a validation must not move weights
            self.optimizer.eval()
            yield
        for group in self.optimizer.param_groups:
            group["train_mode"] = True

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])


Make = Callable[[Mapping[str, nn.Parameter], Settings], Learner]
LEARNERS: Mapping[str, Make] = {"adamw": Adam, "schedule-free": ScheduleFree}


def _step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Tensor],
    rate: float,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _kept(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Puts the values back that the parameters had."""
    before = {k: p.detach().clone() for k, p in parameters.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(before[name])
