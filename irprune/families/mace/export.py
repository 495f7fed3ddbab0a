"""Config-native export: a MACE class built from a config, with the graph's weights in it."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import torch
from torch import nn

from irprune.errors import ExactnessError, LegalityError
from irprune.families.mace.config import build, sliced_config
from irprune.families.mace.core import MaceCore
from irprune.families.mace.load import wrap
from irprune.families.mace.placing import keep_of_native, placed_state
from irprune.files import atomic_path
from irprune.graph import EquivariantGraph

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative; between the graph and what is written, on random inputs, in the graph's precision."""
NEWER = ("_zeroed",)
"""Endings of tensors that only the installed class has; older checkpoints lack them."""
_EXAMPLES = 3


def export_native(graph: EquivariantGraph, path: Path) -> None:
    """Writes a ``.model`` file as mace saves it: the whole module.

    Raises:
        LegalityError: no MACE config describes the structure; names what.
        ExactnessError: the native model would not compute what the graph does.
    """
    save(native_model(graph), path)


def save(model: nn.Module, path: Path) -> None:
    """Writes a model as MACE does: a pickle of the module."""
    with atomic_path(path) as temporary:
        torch.save(model, temporary)


def native_model(graph: EquivariantGraph) -> nn.Module:
    """mace's class with the graph's weights.

    Raises:
        LegalityError, ExactnessError: see ``export_native``.
    """
    from irprune.families.mace.family import MaceFamily
    from irprune.families.trace import trace_family

    model = _built(graph)
    native = trace_family(MaceFamily(), wrap(model, ""))
    state = placed_state(graph, native, keep_of_native(graph, native))
    _load(model, state, graph)
    compare(graph, model, "the native MACE model")
    return model


def fresh_model(graph: EquivariantGraph, seed: int) -> nn.Module:
    """mace's class of the graph's structure with new random weights; buffers are the graph's.

    Raises:
        LegalityError, ExactnessError: see ``export_native``.
    """
    placed = native_model(graph)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _built(graph)
    learned = {name for name, _ in made.named_parameters()}
    kept = {k: v for k, v in placed.state_dict().items() if k not in learned}
    made.load_state_dict(made.state_dict() | kept, strict=True)
    return made


def _built(graph: EquivariantGraph) -> nn.Module:
    """mace's class of the graph's structure, with the weights that mace begins with."""
    if graph.source is None or graph.source.family != "mace":
        raise LegalityError(
            "native:mace needs a graph that was loaded from a MACE checkpoint; use target graph"
        )
    original = graph.source.module
    model = build(type(original), sliced_config(graph), graph.gm)
    for own, old in zip(model.interactions, original.interactions, strict=True):  # type: ignore
        own.avg_num_neighbors = float(old.avg_num_neighbors)
    return model


def _load(model: nn.Module, state: dict[str, torch.Tensor], graph: EquivariantGraph) -> None:
    """Strict load; tensors outside the graph's modules are those of the original."""
    assert graph.source is not None
    original = graph.source.module.state_dict()
    missing = []
    for name, value in model.state_dict().items():
        if name in state:
            continue
        if name in original and original[name].shape == value.shape:
            state[name] = original[name]
        elif name.endswith(NEWER):
            missing.append(name)
            state[name] = value
        else:
            raise LegalityError(
                f"native:mace: the class needs {name} of shape {tuple(value.shape)}, which neither"
                " the graph nor the checkpoint has; use target surgery or graph"
            )
    if missing:
        log.info("set by the installed class, absent from the checkpoint: %s", ", ".join(missing))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise LegalityError(
            f"native:mace: the weights do not fit the class: {str(error).splitlines()[-1].strip()}"
        ) from error


def compare(graph: EquivariantGraph, model: nn.Module, what: str) -> None:
    """Runs a MACE module and the graph on random inputs.

    Raises:
        ExactnessError: they differ by more than ``TOLERANCE``; nothing is written then.
    """
    dtype = next(p.dtype for p in graph.gm.parameters())
    core = MaceCore(copy.deepcopy(model)).eval()
    for seed in range(_EXAMPLES):
        inputs = graph.example(seed=seed, dtype=dtype, grow=4 * seed)
        with torch.no_grad():
            ours, theirs = graph.gm(*inputs), core(*inputs)
        scale = float(ours.abs().max().clamp_min(1e-6))
        worst = float((ours - theirs).abs().max()) / scale
        if not worst <= TOLERANCE[dtype]:
            raise ExactnessError(
                f"{what} differs from the graph by {worst:.3g} (relative), more than"
                f" {TOLERANCE[dtype]:g}; use target graph"
            )
