"""Functions of other packages that a trace records whole, wherever a model's code refers to them.

They look at values or shapes in ways that a tracer cannot follow. Each has a stand-in that computes
the same in plain torch, so that neither a traced graph nor a graph file needs the package. ``trace``
compares the result with the original, so a stand-in that differs is found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from irprune import functional

STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_scatter", "scatter"): functional.scatter,
    ("torch_scatter", "scatter_sum"): functional.scatter,
    ("torch_scatter", "scatter_add"): functional.scatter,
    ("torch_scatter", "scatter_mean"): functional.scatter_mean,
    ("torch_geometric.utils", "scatter"): functional.scatter_rows,
    ("torch_geometric.utils", "softmax"): functional.scatter_softmax,
    ("e3nn.o3", "spherical_harmonics"): functional.spherical_harmonics,
    ("e3nn.math", "soft_one_hot_linspace"): functional.soft_one_hot_linspace,
}
"""(module that makes a function public, its name) → what is recorded in its place."""


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of tensors that torch does not record by itself: sizes are all it is given."""

    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = functional.first_proxy((args, kwargs))
        if proxy is None:
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", function, args, kwargs)

    return call


def whole_functions() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Every global of every imported module that is one of the functions, with its stand-in."""
    for name in ("zeros", "ones"):
        yield torch, name, _recorded(getattr(torch, name))
    known = {
        id(getattr(sys.modules[module], name)): stand_in
        for (module, name), stand_in in STAND_INS.items()
        if module in sys.modules and hasattr(sys.modules[module], name)
    }
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.split(".")[0] in ("torch", "irprune"):
            continue
        for name, value in list(vars(module).items()):
            stand_in = known.get(id(value))
            if stand_in is not None:
                yield module, name, stand_in
