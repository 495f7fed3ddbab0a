"""Training graphs: on compiled kernels, and back into the ops that they had."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from irprune.errors import UsageError
from irprune.recover.features import Watched, kept_columns, layer_nodes
from irprune.recover.holdout import held_out
from irprune.recover.kernels import on_kernels, take_back
from irprune.recover.settings import Settings
from irprune.recover.trainer import train

if TYPE_CHECKING:
    from ase import Atoms
    from torch import nn

    from irprune.graph import EquivariantGraph
    from irprune.recover.result import TrainResult


def recover_graph(
    graph: EquivariantGraph,
    teacher: EquivariantGraph | None,
    frames: Sequence[Atoms],
    settings: Settings,
    *,
    valid: Sequence[Atoms] | None = None,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> tuple[EquivariantGraph, TrainResult]:
    """The graph with trained weights; it has the ops that it had, and claims to equal nothing.

    Args:
        graph: the student.
        teacher: what it learns from; None learns the labels of ``frames``.
        frames: structures.
        settings: see ``Settings``.
        valid: structures held out; by default the share of ``frames`` that the settings say.
        seed: of the order of the structures, of directions and of what is held out.
        device: where student and teacher run.
        options: head, run, resume, processes and progress of ``train``.

    Raises:
        UsageError: a graph that is no interatomic potential, or what ``train`` raises.
    """
    if graph.atomistic is None:
        raise UsageError("recover trains interatomic potentials; this graph has no cutoff")
    settings.check()
    learn, held = held_out(frames, settings, seed) if valid is None else (frames, valid)
    trained = graph.replace(gm=copy.deepcopy(graph.gm))
    for parameter in trained.gm.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    fast = on_kernels(trained)
    student: nn.Module = fast.gm.to(device)
    wise: nn.Module | None = None
    if teacher is not None:
        facts = teacher.facts - {"masks", "scores"}
        quick = on_kernels(teacher.replace(keep=None, scores=None, facts=facts))
        own = copy.deepcopy(quick.gm).to(device)
        wise = own
        if settings.feature_weight:
            nodes = layer_nodes(graph)
            if not nodes:
                raise UsageError(
                    "recover: feature-weight is set, but this graph names no layers whose features"
                    " are copies of irreps on atoms (irprune show lists layers); set it to 0"
                )
            student = Watched(fast.gm, dict.fromkeys(nodes))
            wise = Watched(own, kept_columns(graph, teacher, nodes))
    result = train(
        student,
        wise,
        graph.atomistic,
        learn,
        settings,
        valid=held,
        seed=seed,
        teacher_atomistic=None if teacher is None else teacher.atomistic,
        **{"head": graph.atomistic.any_head(), **options},
    )
    take_back(trained, fast)
    trained.gm.to("cpu")
    for parameter in trained.gm.parameters():
        parameter.requires_grad_(False)
    return trained.replace(claim=None), result
