"""The tracer: an unmodified module becomes an fx graph of semantic nodes.

A module is a leaf when an OpDef stands for its class; everything else is traced through. A module
that cannot be traced through becomes one node without an OpDef: a barrier, frozen and listed with
the line that calls it and the reason.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn

import irprune
from irprune.errors import UsageError
from irprune.ops.base import op_of_class
from irprune.ops.canonical import REWRITTEN
from irprune.ops.installed import load_ops
from irprune.tracing.flatten import FlatInputs
from irprune.tracing.inplace import out_of_place
from irprune.tracing.wholes import whole_functions

Replacement = tuple[Any, str, Callable[..., Any]]
"""(python module, global name, function recorded whole in its place while tracing)"""

_OWN = (str(Path(torch.__file__).parent), str(Path(irprune.__file__).parent))


def _user_line() -> str | None:
    """``file:line`` of the innermost frame that is neither torch's nor irprune's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OWN) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


class SemanticTracer(fx.Tracer):
    """An fx tracer whose leaves are the modules that have an OpDef."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if op_of_class(type(m)) is not None or isinstance(m, REWRITTEN):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        if kind.startswith("call") and (line := _user_line()) is not None:
            node.meta["source"] = line
        return node

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        before = len(self.graph.nodes)
        stack = dict(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever it is, the module becomes a barrier
            if isinstance(self.root, FlatInputs) and m is self.root.inner:
                raise
            self.module_stack.clear()
            self.module_stack.update(stack)
            for node in list(self.graph.nodes)[: before - 1 : -1]:
                self.graph.erase_node(node)
            made = self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
            made.node.meta["why"] = (
                f"its forward cannot be traced: {type(error).__name__}: {_first_line(error)}"
            )
            return made


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@contextlib.contextmanager
def _replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module, name, function in replacements:
            stack.enter_context(patch.object(module, name, function))
        yield


def capture(module: nn.Module, replacements: Sequence[Replacement] = ()) -> fx.GraphModule:
    """Traces ``module`` in evaluation mode; parameters are shared with it, not copied.

    Functions of e3nn, torch_scatter and torch_geometric that cannot be traced through are recorded
    whole, under whatever name the module's code knows them (``irprune.tracing.wholes``).

    Raises:
        UsageError: its own ``forward`` cannot be traced, or changes a tensor in place in a way that
            a graph cannot say; says why.
    """
    load_ops()
    module.eval()
    tracer = SemanticTracer()
    with _replaced([*whole_functions(), *replacements]), torch.no_grad():
        try:
            graph = tracer.trace(module)
        except Exception as error:  # the user's code runs here
            raise UsageError(
                f"cannot trace {type(module).__name__}.forward: {type(error).__name__}: {error};"
                " move what depends on the values of tensors into a submodule, which then becomes a"
                " barrier, or pass a replacement for the function"
            ) from error
    traced = fx.GraphModule(tracer.root, graph, type(module).__name__)
    out_of_place(traced, type(module).__name__)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    traced.eval()
    return traced
