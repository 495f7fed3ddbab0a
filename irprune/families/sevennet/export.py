"""Config-native export: sevenn's own model, built from a config, with the graph's weights in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from irprune.errors import ExactnessError, LegalityError
from irprune.families.sevennet import placing
from irprune.families.sevennet.config import Shape, config_for, module_at, shape_of
from irprune.families.sevennet.core import SevenNetCore
from irprune.families.sevennet.load import build_from_config, one_line, quiet
from irprune.families.sevennet.structure import (
    EMBEDDING,
    ENERGY,
    HIDDEN,
    READOUT_NET,
    Layers,
    mixing,
    radial,
)
from irprune.files import atomic_path
from irprune.graph import EquivariantGraph
from irprune.ops.gate import Gate

_TOLERANCE = 1e-4
"""Relative. Weights are stored in float32: a float64 graph rounds; misplacing shows far above."""
_EXAMPLES = 3


def export_native(graph: EquivariantGraph, path: Path) -> None:
    """Writes a checkpoint for ``SevenNetCalculator``, ``sevenn_get_model`` and sevenn's training.

    The file is what sevenn saves itself: ``model_state_dict``, ``config``, ``epoch``, and optimizer
    states, which are empty: training that continues from it starts its optimizer afresh.

    Raises:
        LegalityError: no SevenNet config describes the structure; names what.
        ExactnessError: the native model would not compute what the graph does.
    """
    model, config = native_model(graph)
    state = {k: v.detach().cpu().float().clone() for k, v in model.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save(
            {
                "model_state_dict": state,
                "optimizer_state_dict": None,
                "scheduler_state_dict": None,
                "config": config,
                "epoch": 0,
            },
            temporary,
        )


def native_model(graph: EquivariantGraph) -> tuple[nn.Module, dict[str, Any]]:
    """sevenn's model with the graph's weights, in float32, and its config.

    Raises:
        LegalityError, ExactnessError: see ``export_native``.
    """
    if graph.source is None or graph.source.family != "sevennet":
        raise LegalityError(
            "native:sevennet needs a graph that was loaded from a SevenNet checkpoint; use target"
            " graph"
        )
    shape = shape_of(graph)
    config = config_for(graph, shape)
    try:
        model = build_from_config(copy.deepcopy(config))
    except Exception as error:
        raise LegalityError(
            "sevenn cannot build the model with irreps "
            f"{' | '.join('+'.join(map(str, s)) for s in shape.irreps)}: {one_line(error)}"
        ) from error
    state = {k: v.double() for k, v in model.state_dict().items()}
    placed = _weights(graph, model, shape)
    missing = [k for k, _ in model.named_parameters() if k not in placed]
    if missing:
        raise ExactnessError(f"no weights were found for {', '.join(missing)}")
    model.load_state_dict({**state, **placed, **_constants(graph, model)}, strict=True)
    _compare(graph, model)
    return model, config


NOT_FEATURES = ("shift", "scale", "denominator", "coeffs")
"""Endings of parameters that say how energies, messages and distances are scaled."""


def fresh_model(graph: EquivariantGraph, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """sevenn's model of the graph's structure with new random weights, and its config.

    Buffers, and what scales energies, messages and distances, are the graph's.

    Raises:
        LegalityError, ExactnessError: see ``export_native``.
    """
    placed, config = native_model(graph)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build_from_config(copy.deepcopy(config))
    learned = {k for k, _ in made.named_parameters() if not k.endswith(NOT_FEATURES)}
    kept = {k: v for k, v in placed.state_dict().items() if k not in learned}
    made.load_state_dict(made.state_dict() | kept, strict=True)
    return made, config


def _weights(graph: EquivariantGraph, model: nn.Module, shape: Shape) -> dict[str, Tensor]:
    """Every parameter of ``model``, from the graph."""
    layers = Layers.of(graph)
    types = [layers.type_at(graph, i) for i in range(len(layers))]
    features = [
        placing.padded_map(native, own.segments)
        for native, own in zip(shape.irreps, types, strict=True)
    ]
    state: dict[str, Tensor] = {}

    def put(path: str, values: dict[str, Tensor]) -> None:
        state.update({f"{path.removeprefix('model.')}.{k}": v for k, v in values.items()})

    def pair(path: str) -> tuple[Any, Any]:
        return model.get_submodule(path.removeprefix("model.")), module_at(graph, path)

    native, own = pair(EMBEDDING)
    species = placing.identity(native.irreps_in.dim)
    put(EMBEDDING, placing.place_linear((native, own), species, features[0]))
    for t in layers.convolutions:
        put_layer = _Layer(t, features[t], features[t + 1])
        for path, values in put_layer.weights(pair):
            put(path, values)
    if shape.hidden is None:
        put(READOUT_NET, placing.place_network(pair(READOUT_NET), rows=features[-1]))
    else:
        native, own = pair(HIDDEN)
        hidden = placing.by_irrep(native.irreps_out, own.irreps_out)
        put(HIDDEN, placing.place_linear((native, own), features[-1], hidden))
        put(ENERGY, placing.place_linear(pair(ENERGY), hidden, placing.identity(1)))
    for name, parameter in model.named_parameters():
        if name not in state:
            state[name] = _tensor(graph, name, parameter)
    return state


class _Layer:
    """The weights of one interaction layer."""

    def __init__(self, t: int, before: placing.UnitMap, after: placing.UnitMap) -> None:
        self.t, self.before, self.after = t, before, after

    def weights(
        self, pair: Callable[[str], tuple[Any, Any]]
    ) -> list[tuple[str, dict[str, Tensor]]]:
        t = self.t
        gate = Gate()
        native_gate, own_gate = pair(f"model.{t}_equivariant_gate.gate")
        gate_in = placing.gate_input_map(gate.parts(native_gate), gate.parts(own_gate), self.after)
        connection = f"model.{t}_self_connection_intro." + (
            "linear" if hasattr(pair(f"model.{t}_self_connection_intro")[0], "linear")
            else "fc_tensor_product"
        )  # fmt: skip
        native, own = pair(mixing(t))
        mixed = placing.by_irrep(native.irreps_out, own.irreps_out)
        product, own_product = pair(f"model.{t}_convolution.convolution")
        messages = placing.match_messages(product, own_product, mixed)
        second = f"model.{t}_self_interaction_2.linear"
        _same_units(product.irreps_out, pair(second)[0].irreps_in, second)
        return [
            (connection, placing.place_linear(pair(connection), self.before, gate_in)),
            (mixing(t), placing.place_linear(pair(mixing(t)), self.before, mixed)),
            (radial(t), placing.place_network(pair(radial(t)), messages=messages)),
            (second, placing.place_linear(pair(second), messages.units, gate_in)),
        ]


def _same_units(a: o3.Irreps, b: o3.Irreps, where: str) -> None:
    if a.simplify() != b.simplify():
        raise ExactnessError(f"sevenn's {where} reads {b}, but its messages are {a}")


def _tensor(graph: EquivariantGraph, name: str, like: Tensor) -> Tensor:
    """A tensor that the graph holds itself (shift, scale, denominator, Bessel coefficients).

    Raises:
        LegalityError: the graph has none of that name or shape.
    """
    parent, _, last = f"model.{name}".rpartition(".")
    owner = module_at(graph, parent)
    value = getattr(owner, last, None)
    if not isinstance(value, Tensor) or value.shape != like.shape:
        got = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "missing"
        raise LegalityError(
            f"native:sevennet needs {name} of shape {tuple(like.shape)}; in the graph it is {got}"
        )
    return value.detach().double().cpu()


def _constants(graph: EquivariantGraph, model: nn.Module) -> dict[str, Tensor]:
    """Wigner 3j buffers as the checkpoint has them, where the graph holds the same ones."""
    known: dict[str, Tensor] = {}
    for name, buffer in graph.gm.named_buffers():
        if "_w3j_" in name:
            known.setdefault(name.rpartition(".")[2], buffer)
    return {
        name: known[short].detach().double().cpu()
        for name, buffer in model.named_buffers()
        if (short := name.rpartition(".")[2]) in known and known[short].shape == buffer.shape
    }


def _compare(graph: EquivariantGraph, model: nn.Module) -> None:
    """Runs both on random inputs in float64; differences count against what the edges contribute.

    Raises:
        ExactnessError: they differ; nothing is written then.
    """
    assert graph.atomistic is not None
    with quiet():
        core = (
            SevenNetCore(copy.deepcopy(model), len(graph.atomistic.atomic_numbers)).double().eval()
        )
        ours = graph.module(torch.float64)
    for seed in range(_EXAMPLES):
        inputs = graph.example(seed=seed, dtype=torch.float64, grow=seed)
        vectors, species, edge_index, head = inputs
        with torch.no_grad():
            a, b = ours(*inputs), core(*inputs)
            alone = ours(vectors[:0], species, edge_index[:, :0], head)
        worst = float((a - b).abs().max() / (a - alone).abs().max().clamp_min(1e-6))
        if not np.isfinite(worst) or worst > _TOLERANCE:
            raise ExactnessError(
                f"the native SevenNet model differs from the graph by {worst:.3g} (relative), more"
                f" than {_TOLERANCE:g}: the graph computes something that no config can say; use"
                " target graph"
            )
