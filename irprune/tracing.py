"""``irprune.trace``: a network that a user wrote becomes an EquivariantGraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from irprune.capture import Replacement, capture
from irprune.errors import UsageError
from irprune.graph import EquivariantGraph
from irprune.infer import parse_input


def trace(
    module: nn.Module,
    inputs: Mapping[str, str],
    replacements: Sequence[Replacement] = (),
) -> EquivariantGraph:
    """Traces a module built from equivariant layers.

    Args:
        module: any ``nn.Module``; traced in evaluation mode, parameters stay shared with it.
        inputs: type of each argument of ``forward``: irreps such as ``8x0e+4x1o``, ``index`` (one
            integer per row), ``edge_index`` ([2, E]). Rows are nodes, or edges where the name says
            so (edge, src, dst, sender, receiver); ``node:``, ``edge:`` or ``graph:`` before the
            irreps says it outright.
        replacements: functions of other Python modules to record whole while tracing.

    Raises:
        UsageError: an argument without a type, or a type that does not parse.
        IrrepsTypeError: values that do not fit; names the nodes.
    """
    gm = capture(module, replacements)
    names = [str(n.target) for n in gm.graph.nodes if n.op == "placeholder"]
    missing = [n for n in names if n not in inputs]
    extra = [n for n in inputs if n not in names]
    if missing or extra:
        raise UsageError(
            f"inputs must name the arguments of forward, {', '.join(names)}; missing:"
            f" {', '.join(missing) or 'none'}; not an argument: {', '.join(extra) or 'none'}"
        )
    return EquivariantGraph.build(gm, {n: parse_input(n, inputs[n]) for n in names})
