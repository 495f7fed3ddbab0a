"""The verification ladder of a graph: types, masked ≡ sliced, then the physical rungs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from irprune.errors import UsageError
from irprune.evaluation.differences import dtype_name
from irprune.functional import tensors_in
from irprune.infer import check_shapes
from irprune.shapes import only_shapes
from irprune.slicing import masked_and_sliced
from irprune.verification.checks import Check, make_check, worst_of
from irprune.verification.tolerances import tolerance

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.graph import EquivariantGraph

Progress = Callable[[int, int], None]


def types_rung(graph: EquivariantGraph) -> Check:
    """Every value of the graph has the shape that its type says.

    Raises:
        IrrepsTypeError: names the first value that has not.
    """
    check_shapes(graph.gm, graph.sites, graph.inputs)
    untyped = sum(str(s.out) == "unknown" for s in graph.sites.values())
    return make_check("types", untyped, 0, f"{len(graph.sites)} values, {untyped} behind barriers")


def masked_sliced_rung(graph: EquivariantGraph, frames: Sequence[Atoms] | None) -> Check:
    """Largest relative difference of the masked original and the sliced model, in float64.

    Energies and forces; for a network without atoms, values and gradients.
    """
    masked, sliced = masked_and_sliced(graph)
    if graph.atomistic is not None and frames:
        from irprune.evaluation.potential import Potential
        from irprune.verification.physical import agreement

        head = graph.atomistic.any_head()
        a, b = (Potential(m, graph.atomistic, head) for m in (masked, sliced))
        return agreement(a, b, frames, check="masked-sliced")
    worst = worst_of(compare_on_examples(graph, masked, sliced, grow) for grow in (0, 3))
    return make_check("masked-sliced", worst, tolerance("masked-sliced", "float64"))


def _own_dtype(graph: EquivariantGraph) -> str:
    """The precision of the weights of a graph; a graph file holds whole numbers beside them."""
    floats = (p.dtype for p in graph.gm.parameters() if p.is_floating_point())
    return dtype_name(next(floats, torch.float64))


def claim_rung(graph: EquivariantGraph, frames: Sequence[Atoms] | None) -> Check:
    """Largest relative difference of the graph as it stands and what it claims to equal.

    Both compute in float64 with the weights that they have: a graph made in float32 carries the
    rounding of its folds (6e-8 per weight), and is allowed what float32 is.
    """
    assert graph.claim is not None
    ours, theirs = graph.module(torch.float64), graph.claimed()
    limit = tolerance("claim", _own_dtype(graph))
    if graph.atomistic is not None and frames:
        from irprune.evaluation.potential import Potential
        from irprune.verification.physical import agreement

        head, before = graph.atomistic.any_head(), graph.claim.atomistic or graph.atomistic
        a, b = Potential(theirs, before, head), Potential(ours, graph.atomistic, head)
        found = agreement(a, b, frames, check="claim")
        return make_check("claim", found.value, limit, found.detail)
    worst = worst_of(compare_on_examples(graph, theirs, ours, grow) for grow in (0, 3))
    return make_check("claim", worst, limit)


def network_rung(graph: EquivariantGraph, other: EquivariantGraph) -> Check:
    """Largest relative difference of two networks without atoms, values and gradients, in float64.

    Raises:
        UsageError: they take in values of different types; names both.
    """
    ours, theirs = ([str(t) for t in g.inputs.values()] for g in (graph, other))
    if ours != theirs:
        raise UsageError(
            f"these networks cannot be compared: one takes in {', '.join(ours)}, the other"
            f" {', '.join(theirs)}"
        )
    a, b = other.module(torch.float64), graph.module(torch.float64)
    worst = worst_of(compare_on_examples(graph, a, b, grow) for grow in (0, 3))
    limit = tolerance("claim", _own_dtype(graph))
    return make_check("agreement", worst, limit, "values and gradients")


def compare_on_examples(
    graph: EquivariantGraph, a: torch.nn.Module, b: torch.nn.Module, grow: int = 0
) -> float:
    """Largest relative difference of values and gradients of two modules on random inputs; NaN where
    one of them is not a number, or there are none.
    """
    inputs = [
        x.clone().requires_grad_(x.is_floating_point()) for x in graph.example(seed=grow, grow=grow)
    ]
    floating = [x for x in inputs if x.is_floating_point()]
    results = []
    for module in (a, b):
        with only_shapes():
            values = tensors_in(module(*inputs))
        total = sum(
            (
                (v * torch.linspace(0.5, 1.5, v.numel(), dtype=v.dtype).reshape(v.shape)).sum()
                for v in values
                if v.requires_grad
            ),
            torch.zeros((), dtype=torch.float64),
        )
        grads: tuple[torch.Tensor | None, ...] = (None,) * len(floating)
        if floating and total.requires_grad:
            grads = torch.autograd.grad(total, floating, allow_unused=True)
        pairs = zip(floating, grads, strict=True)
        filled = [torch.zeros_like(x) if g is None else g for x, g in pairs]
        results.append([*(v.detach() for v in values), *filled])
    compared = [(x, y) for x, y in zip(*results, strict=True) if x.numel()]
    if not compared:
        return math.nan
    return worst_of(
        float((x - y).abs().max() / x.abs().max().clamp(min=1e-12)) for x, y in compared
    )


def verify_graph(
    graph: EquivariantGraph,
    frames: Sequence[Atoms] | None = None,
    *,
    seed: int = 0,
    steps: Sequence[str] | None = None,
    progress: Progress | None = None,
    structures: int = 3,
) -> list[Check]:
    """All rungs that apply to the graph, in order.

    Args:
        graph: any graph; masked ≡ sliced runs where it has been sliced, the claim where it has one,
            what is compiled where it is.
        frames: structures; generated if None.
        seed: for the generated structures.
        steps: physical rungs to run; all by default.
        progress: called with (rungs done, rungs in all).
        structures: how many to generate where no frames are given.
    """
    checks = [types_rung(graph)]
    if frames is None and graph.atomistic is not None:
        from irprune.data.generate import generate

        frames = generate(graph.atomistic, structures, seed=seed + 1, max_atoms=12)
    if graph.origin is not None:
        checks.append(masked_sliced_rung(graph, frames))
    if graph.claim is not None:
        checks.append(claim_rung(graph, frames))
    if graph.compiled is not None and frames:
        from irprune.compiling.rung import compiled_rung

        checks.append(compiled_rung(graph, frames))
    if graph.atomistic is not None and frames:
        from irprune.evaluation.potential import Potential
        from irprune.verification.physical import run_ladder

        module = graph.module(torch.float64)
        potential = Potential(module, graph.atomistic, graph.atomistic.any_head())
        checks += run_ladder(potential, frames, steps=steps, progress=progress)
    return checks
