"""The tracer: an unmodified module becomes an fx graph of semantic nodes.

A module is a leaf when an OpDef stands for its class; everything else is traced through. A module
that cannot be traced through becomes one node without an OpDef: a barrier, frozen and listed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn

from irprune.errors import UsageError
from irprune.ops.base import load_builtin_ops, op_of_class

Replacement = tuple[Any, str, Callable[..., Any]]
"""(python module, global name, function recorded whole in its place while tracing)"""


class SemanticTracer(fx.Tracer):
    """An fx tracer whose leaves are the modules that have an OpDef."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if op_of_class(type(m)) is not None:
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError):
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


@contextlib.contextmanager
def _replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module, name, function in replacements:
            stack.enter_context(patch.object(module, name, function))
        yield


def capture(module: nn.Module, replacements: Sequence[Replacement] = ()) -> fx.GraphModule:
    """Traces ``module`` in evaluation mode; parameters are shared with it, not copied.

    Raises:
        UsageError: its own ``forward`` cannot be traced; says why.
    """
    load_builtin_ops()
    module.eval()
    tracer = SemanticTracer()
    with _replaced(replacements), torch.no_grad():
        try:
            graph = tracer.trace(module)
        except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"cannot trace {type(module).__name__}.forward: {type(error).__name__}: {error};"
                " move what depends on the values of tensors into a submodule, which then becomes a"
                " barrier, or pass a replacement for the function"
            ) from error
    traced = fx.GraphModule(tracer.root, graph, type(module).__name__)
    for node in graph.nodes:
        name = str(node.target)
        in_place = node.op == "call_method" and name.endswith("_") and not name.endswith("__")
        if in_place and not node.users:
            raise UsageError(
                f"cannot trace {type(module).__name__}.forward: {node.name} changes a tensor in place"
                f" by .{name}() and its result is not used, which a graph cannot say; write"
                f" x = x.{name}(…), or x = x.{name[:-1]}(…)"
            )
    traced.graph.eliminate_dead_code()
    traced.recompile()
    traced.eval()
    return traced
