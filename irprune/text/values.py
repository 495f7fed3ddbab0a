"""Types and arguments as text, and the functions that a text can name."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from irprune.irreps import IrrepsType
from irprune.ops.base import Other

NAMESPACES = (
    "operator", "builtins", "irprune.functional", "irprune.edges", "math", "torch",
    "torch.nn.functional", "torch.linalg", "torch.special",
)  # fmt: skip
"""Where the name of a function is looked for, in this order."""
SILENT = NAMESPACES[:4]
"""A function of these that has the name of its op is not printed beside it."""


@dataclass(frozen=True)
class Ref:
    """A value, as an argument of a call."""

    name: str

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Word:
    """A constant that Python writes as a name: ``torch.float64``, ``nan``, ``...``."""

    text: str

    def __str__(self) -> str:
        return self.text


def function_name(f: Callable[..., Any]) -> str:
    """A function by the place where users find it: ``operator.add``, ``torch.exp``."""
    name = getattr(f, "__name__", None)
    if name is not None:
        for place in NAMESPACES:  # torch's own name of linalg.norm is linalg_norm
            known = name.removeprefix(f"{place.rpartition('.')[2]}_")
            if getattr(importlib.import_module(place), known, None) is f:
                return f"{place}.{known}"
    return f"{f.__module__}.{getattr(f, '__qualname__', name or repr(f))}"


def implied_function(op: str) -> str | None:
    """The function that an op stands for where the text names none."""
    name = op.replace("-", "_")
    for place in SILENT:
        if callable(getattr(importlib.import_module(place), name, None)):
            return f"{place}.{name}"
    return None


def argument_of(a: Any) -> Any:
    """An argument of an fx node as a value of a listing.

    A constant that the text has no form for becomes a word in backquotes: it prints and compares.
    """
    if isinstance(a, fx.Node):
        return Ref(a.name)
    if isinstance(a, list):
        return [argument_of(x) for x in a]
    if isinstance(a, tuple):
        return tuple(argument_of(x) for x in a)
    if isinstance(a, slice):
        return slice(*(argument_of(x) for x in (a.start, a.stop, a.step)))
    if isinstance(a, dict):
        return {str(k): argument_of(v) for k, v in a.items()}
    if isinstance(a, (torch.dtype, torch.memory_format, torch.layout)):
        return Word(str(a))
    if isinstance(a, torch.device):
        return Word(f"torch.device.{str(a).replace(':', '.')}")
    if a is Ellipsis:
        return Word("...")
    if isinstance(a, float) and not math.isfinite(a):
        return Word(repr(a))
    if a is None or isinstance(a, (bool, int, float, str)):
        return a
    shown = " ".join(repr(a).replace("`", "'").split())
    return Word(f"`{shown}`")


def print_argument(a: Any) -> str:
    """An argument of a listing as text."""
    if isinstance(a, tuple):
        inner = ", ".join(print_argument(x) for x in a)
        return f"({inner},)" if len(a) == 1 else f"({inner})"
    if isinstance(a, list):
        return f"[{', '.join(print_argument(x) for x in a)}]"
    if isinstance(a, dict):
        return f"{{{', '.join(f'{k!r}: {print_argument(v)}' for k, v in a.items())}}}"
    if isinstance(a, slice):
        start, stop, step = (
            "" if x is None else print_argument(x) for x in (a.start, a.stop, a.step)
        )
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return str(a) if isinstance(a, (Ref, Word)) else repr(a)


def print_type(t: Any) -> str:
    """A type of a value as text: ``node[4x0e+2x1o]``, ``index[edge]``, ``(…, …)``."""
    if isinstance(t, tuple):
        return f"({', '.join(print_type(x) for x in t)})"
    if not isinstance(t, Other):
        return str(t)
    parts = [] if t.shape is None else ["x".join(map(str, t.shape))]
    if t.rows is not None:
        parts.append(t.rows)
    if t.value is not None:
        known = isinstance(t.value, (IrrepsType, Other, tuple))
        parts.append(print_type(t.value) if known else repr(t.value))
    return f"{t.kind}[{', '.join(parts)}]" if parts else t.kind
