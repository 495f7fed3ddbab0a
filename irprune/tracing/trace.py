"""``irprune.trace``: a network that a user wrote becomes an EquivariantGraph."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from irprune.errors import UsageError
from irprune.functional import tensors_in
from irprune.graph import EquivariantGraph
from irprune.infer import example_inputs, infer_sites, observe_shapes, parse_input
from irprune.ops.canonical import canonical
from irprune.shapes import only_shapes
from irprune.tracing.capture import Replacement, capture
from irprune.tracing.flatten import with_flat_inputs
from irprune.tracing.scales import sliceable_scales

Inputs = Mapping[str, "str | Mapping[str, str]"]


def trace(
    module: nn.Module,
    inputs: Inputs,
    replacements: Sequence[Replacement] = (),
) -> EquivariantGraph:
    """Traces a module built from equivariant layers.

    What no op knows becomes a barrier: what touches it is frozen, the rest can be pruned.
    ``graph.blocks.barriers`` names them, ``print(graph.groups())`` says where and why. The graph is
    compared with the module on random inputs before it is given back.

    Args:
        module: any ``nn.Module``; traced in evaluation mode, parameters stay shared with it.
        inputs: type of each argument of ``forward``: irreps such as ``8x0e+4x1o``, ``index`` (one
            integer per row), ``edge_index`` ([2, E]). Rows are nodes, or edges where the name says
            so (edge, src, dst, sender, receiver); ``node:``, ``edge:`` or ``graph:`` before the
            irreps says it outright; `` ir_mul`` behind them that they lie in cuEquivariance's other
            layout. For an argument that is a dict, a mapping from its keys to
            types; the keys are inputs of the graph.
        replacements: functions of other Python modules to record whole while tracing.

    Raises:
        UsageError: an argument without a type, a type that does not parse, or a module that a graph
            cannot say (its values differ from those of the graph).
        IrrepsTypeError: values that do not fit; names the nodes.
    """
    flat, root = with_flat_inputs(module, inputs)
    gm = capture(root, replacements)
    names = [str(n.target) for n in gm.graph.nodes if n.op == "placeholder"]
    missing = [n for n in names if n not in flat]
    extra = [n for n in flat if n not in names]
    if missing or extra:
        raise UsageError(
            f"inputs must name the arguments of forward, {', '.join(names)}; missing:"
            f" {', '.join(missing) or 'none'}; not an argument: {', '.join(extra) or 'none'}"
        )
    types = {n: parse_input(n, flat[n]) for n in names}
    canonical(gm)
    with contextlib.suppress(Exception):  # whatever is wrong is reported below
        observe_shapes(gm, types)
    sliceable_scales(gm, types)
    infer_sites(gm, types)  # types that contradict each other are told before anything runs
    _compare(root, gm, types)
    return EquivariantGraph.build(gm, types)


def _compare(module: nn.Module, gm: fx.GraphModule, types: Mapping[str, Any]) -> None:
    """Runs module and graph on random inputs.

    Raises:
        UsageError: they differ.
    """
    dtype = next((p.dtype for p in gm.parameters() if p.is_floating_point()), torch.float64)
    try:
        with torch.no_grad(), only_shapes():
            want = tensors_in(module(*example_inputs(types, dtype=dtype).values()))
    except Exception as error:  # the user's code runs here
        raise UsageError(
            f"{type(module).__name__}.forward fails on random inputs of the types given:"
            f" {type(error).__name__}: {error}"
        ) from error
    got = tensors_in(observe_shapes(gm, types))
    limit = 1e-9 if dtype is torch.float64 else 1e-4
    same = len(got) == len(want) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=limit, atol=limit, equal_nan=True)
        for a, b in zip(got, want, strict=True)
    )
    if not same:
        raise UsageError(
            f"the graph of {type(module).__name__}.forward gives other values than the module: its"
            " code depends on values, or changes a tensor in place where another name sees it"
            " (x += y); write x = x + y, and move the rest into a submodule, which becomes a barrier"
        )
