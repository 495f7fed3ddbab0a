"""Arguments that are dicts of tensors, as inputs of their own."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from irprune.errors import UsageError


def with_flat_inputs(
    module: nn.Module, inputs: Mapping[str, str | Mapping[str, str]]
) -> tuple[dict[str, str], nn.Module]:
    """Inputs by name, and a module that takes them so; the module itself where none is a dict.

    Args:
        module: takes the names in ``inputs``.
        inputs: types, or for an argument that is a dict a mapping from its keys to types.

    Raises:
        UsageError: a name that stands twice, or is no Python name.
    """
    flat: dict[str, str] = {}
    for name, given in inputs.items():
        entries = {name: given} if isinstance(given, str) else dict(given)
        for key, text in entries.items():
            if key in flat or not key.isidentifier() or keyword.iskeyword(key):
                reason = "stands twice" if key in flat else "is no Python name"
                raise UsageError(f"inputs of {type(module).__name__}: {key!r} {reason}")
            flat[key] = text
    if all(isinstance(given, str) for given in inputs.values()):
        return flat, module
    cls = type(type(module).__name__, (FlatInputs,), {"forward": _forward(inputs)})
    return flat, cls(module)


class FlatInputs(nn.Module):
    """Holds the module whose arguments are dicts."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def _forward(inputs: Mapping[str, str | Mapping[str, str]]) -> Callable[..., Any]:
    """``forward(self, a, b, …)`` that puts the dicts together; fx reads names off its code."""
    calls, names = [], []
    for name, given in inputs.items():
        keys = [name] if isinstance(given, str) else list(given)
        names += keys
        value = name if isinstance(given, str) else (
            "{" + ", ".join(f"{k!r}: {k}" for k in keys) + "}"
        )  # fmt: skip
        calls.append(f"{name}={value}")
    source = f"def forward(self, {', '.join(names)}):\n    return self.inner({', '.join(calls)})\n"
    scope: dict[str, Any] = {}
    exec(compile(source, "<inputs>", "exec"), scope)  # names are identifiers, checked above
    made: Callable[..., Any] = scope["forward"]
    assert inspect.isfunction(made)
    return made
