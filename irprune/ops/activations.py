"""Scalar activation functions by name, so that a graph file holds no code."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from e3nn.math import normalize2mom
from torch import Tensor, nn

from irprune.errors import UsageError

Function = Callable[[Tensor], Tensor]


def shifted_softplus(x: Tensor) -> Tensor:
    """softplus(x) − ln 2."""
    return torch.nn.functional.softplus(x) - math.log(2.0)


FUNCTIONS: dict[str, Function] = {
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "abs": torch.abs,
    "gelu": torch.nn.functional.gelu,
    "softplus": torch.nn.functional.softplus,
    "shifted_softplus": shifted_softplus,
}

_ALIASES = {"ShiftedSoftPlus": "shifted_softplus", "ssp": "shifted_softplus"}


def raw(act: Any) -> Any:
    """The function inside e3nn's normalize2mom wrapper; the function itself if bare."""
    return act.f if hasattr(act, "f") and hasattr(act, "cst") else act


def name_of(act: Any) -> str:
    """The registered name of an activation.

    Raises:
        UsageError: a function that is not registered.
    """
    if act is None:
        return "none"
    f = raw(act)
    name = getattr(f, "__name__", None) or getattr(f, "name", None) or type(f).__name__
    name = {"SiLU": "silu", "Tanh": "tanh", "Sigmoid": "sigmoid"}.get(str(name), str(name))
    name = _ALIASES.get(name, name)
    if name not in FUNCTIONS:
        raise UsageError(
            f"activation {f!r} is not one of {', '.join(FUNCTIONS)}; it cannot be written to a"
            " graph file"
        )
    return name


def function_named(name: str) -> Function | None:
    """The function with a registered name; None for ``none``."""
    return None if name == "none" else FUNCTIONS[name]


def value_at_zero(act: Any) -> float:
    """act(0), which decides whether a dead scalar stays dead."""
    return 0.0 if act is None else float(act(torch.zeros(1, dtype=torch.float64)))


def factor_of(act: Any) -> float | None:
    """The constant that e3nn's normalize2mom multiplies with; None where it multiplies with none."""
    return None if getattr(act, "_is_id", True) else float(act.cst)


def normalised(name: str, factor: float | None) -> Any:
    """A named function times a factor, as e3nn's normalize2mom module.

    The factor is taken as given: e3nn estimates it from random numbers, which may differ in the last
    digits from one version to the next.
    """
    f = function_named(name)
    if f is None:
        return None
    act = normalize2mom(f)
    act._is_id = factor is None
    if factor is not None:
        act.cst = factor
    return act


def set_acts(module: nn.Module, acts: Sequence[Any]) -> None:
    """Replaces the functions of an ``e3nn.nn.Activation``, normalisation included."""
    module.acts = nn.ModuleList(copy.deepcopy(list(acts)))
