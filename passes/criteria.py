"""The importance criteria that the score pass offers: one function each, graph → [n_classes].

Every criterion accumulates over structures, one at a time, so that the result does not depend on
batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from irprune.errors import DataError
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.masked import MultipliedInterpreter, read_plan
from irprune.ops.base import op_of_node

if TYPE_CHECKING:
    from ase import Atoms

Values = NDArray[np.float64]
Progress = Callable[[int, int], None]


def random(graph: EquivariantGraph, seed: int) -> Values:
    """Uniform in [0, 1): the control that every criterion must beat."""
    return np.random.default_rng(seed).random(graph.blocks.n_classes)


def magnitude(graph: EquivariantGraph) -> Values:
    """Sum of squared effective weights (normalisation folded in) that make or read a block."""
    space = graph.blocks
    total = np.zeros(space.n_classes)
    seen = np.zeros(space.n_classes, bool)

    def add(node: str, axis: str | None, values: Any) -> None:
        if values is not None:
            classes = space.class_of[space.ids_of(node, axis)]
            np.add.at(total, classes, values)
            seen[classes] = True

    for name, site in graph.sites.items():
        op = op_of_node(site.node, site.module) if site.node.op == "call_module" else None
        found = op.magnitude(site) if op is not None else None
        if found is None:
            continue
        for operand, values in zip(site.operands, found.operands, strict=False):
            add(operand.name, None, values)
        add(name, None, found.out)
        for axis, values in found.axes.items():
            add(name, axis, values)
    _hand_to_axes(graph, total, seen)
    total[~seen] = np.nan
    return total


def _hand_to_axes(graph: EquivariantGraph, total: Values, seen: NDArray[np.bool_]) -> None:
    """Adds the weights of product elements to the axes (channel, order, path) that they stand on."""
    space = graph.blocks
    is_axis = np.zeros(space.n, bool)
    for (_, axis), span in space.spans.items():
        is_axis[span.start : span.start + span.size] = axis is not None
    before = total.copy()
    for out, factors in space.products:
        made = space.class_of[out]
        for f in factors:
            pick = is_axis[f] & seen[made]
            np.add.at(total, space.class_of[f[pick]], before[made[pick]])
            seen[space.class_of[f[pick]]] = True


class _Reader(fx.Interpreter):
    """Adds up mean squares of every unit where it is read."""

    def __init__(self, graph: EquivariantGraph, total: Values) -> None:
        super().__init__(graph.gm)
        self.sites, self.space, self.total = graph.sites, graph.blocks, total
        self.plan = read_plan(graph, of_value=True)

    def run_node(self, n: fx.Node) -> Any:
        site = self.sites[n.name]
        for read in self.plan.reads.get(n.name, ()):
            t, value = site.irreps(read.operand), self.env[site.operands[read.operand]]
            (ids,) = read.factors
            np.add.at(
                self.total, self.space.class_of[ids[ids >= 0]], _mean_squares(t, value)[ids >= 0]
            )
        return super().run_node(n)


def _mean_squares(t: IrrepsType, value: Tensor) -> Values:
    """Mean over rows of |block|²/(2l+1), [n_units]."""
    if value.dim() == 3:
        parts = value.split([s.dim for s in t.segments], dim=2)
        units = torch.cat([p.square().mean(dim=2) for p in parts], dim=1)
        return units.double().mean(dim=0).numpy() if len(value) else np.zeros(t.n_units)
    flat = value.reshape(len(value), -1).double().square()
    dims = torch.as_tensor(t.unit_dims)
    index = torch.arange(t.n_units).repeat_interleave(dims)
    sums = torch.zeros(len(value), t.n_units, dtype=flat.dtype).index_add(1, index, flat)
    return (sums / dims).mean(dim=0).numpy() if len(value) else np.zeros(t.n_units)


def activation(
    graph: EquivariantGraph, frames: Sequence[Atoms], progress: Progress
) -> tuple[Values, dict[str, Any]]:
    """Mean square of a block over the structures, per component, summed over where it is read."""
    total = np.zeros(graph.blocks.n_classes)
    reader = _Reader(graph, total)
    with torch.no_grad():
        for i, inputs in enumerate(structures(graph, frames)):
            reader.run(*inputs.call)
            progress(i + 1, len(frames))
    seen = _readable(graph)
    _hand_to_axes(graph, total, seen)
    total[~seen] = np.nan
    return np.sqrt(total / max(len(frames), 1)), {"structures": len(frames)}


def _readable(graph: EquivariantGraph) -> NDArray[np.bool_]:
    """Classes with an element that is a unit of some value."""
    out = np.zeros(graph.blocks.n_classes, bool)
    for (_, axis), span in graph.blocks.spans.items():
        if axis is None:
            out[graph.blocks.class_of[span.ids]] = True
    return out


class Inputs:
    """One structure as the graph wants it, with positions to differentiate."""

    def __init__(self, graph: EquivariantGraph, frame: Atoms, dtype: torch.dtype) -> None:
        from irprune.data.batch import collate

        assert graph.atomistic is not None
        head = graph.atomistic.any_head()
        batch = collate([frame], graph.atomistic, dtype, head=head)
        self.positions = batch.positions.clone().requires_grad_(True)
        self.n_atoms = len(frame)
        self.n_edges = batch.n_edges
        first, second = batch.edge_index
        vectors = batch.edge_vectors() + (
            self.positions[second]
            - self.positions[first]
            - (batch.positions[second] - batch.positions[first])
        )
        self.call = (vectors, batch.species, batch.edge_index, batch.head)


def structures(graph: EquivariantGraph, frames: Sequence[Atoms]) -> Any:
    """The structures one by one, as :class:`Inputs` in the dtype of the model."""
    dtype = next(p.dtype for p in graph.gm.parameters() if p.is_floating_point())
    for frame in frames:
        yield Inputs(graph, frame, dtype)


def energy_force(
    graph: EquivariantGraph,
    frames: Sequence[Atoms],
    *,
    energy_weight: float = 1.0,
    force_weight: float = 1.0,
    probes: int = 2,
    max_force: float = 50.0,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> tuple[Values, dict[str, Any]]:
    """Sensitivity of energy and forces to the mask variable z of each group, at z = 1.

    I = mean over structures of w_E (∂(E/N)/∂z)² + w_F ‖∂F/∂z‖² / 3N, in eV² and (eV/Å)². The force
    term is estimated without bias from ``probes`` random sign vectors v: E[(∂(v·F)/∂z)²] =
    ‖∂F/∂z‖² (Hutchinson). No labels are needed. Structures with a force above ``max_force`` (eV/Å)
    are left out: the mean of squares would be theirs alone. The detail says how many.

    Raises:
        DataError: every structure has such a force.
    """
    gen = torch.Generator().manual_seed(seed)
    plan = read_plan(graph, of_value=False)
    total = torch.zeros(graph.blocks.n_classes, dtype=torch.float64)
    used = 0
    for i, inputs in enumerate(structures(graph, frames)):
        progress(i + 1, len(frames))
        z = torch.ones(graph.blocks.n_classes, dtype=torch.float64, requires_grad=True)
        energies = MultipliedInterpreter(graph, plan, z).run(*inputs.call)
        n = inputs.n_atoms
        gradient = None
        if inputs.n_edges:
            (gradient,) = torch.autograd.grad(energies.sum(), inputs.positions, create_graph=True)
            if float(gradient.detach().norm(dim=1).max()) > max_force:
                continue
        used += 1
        (by_energy,) = torch.autograd.grad(energies.sum() / n, z, retain_graph=True)
        total += energy_weight * by_energy.square()
        if force_weight and gradient is not None:
            total += force_weight * _force_term(gradient, z, probes, gen) / (3 * n)
    if not used:
        raise DataError(
            f"score: all {len(frames)} structures have a force above {max_force:g} eV/Å; give calmer"
            " ones, or raise max-force"
        )
    values = (total / used).numpy()
    detail = {
        "structures": used,
        "left_out": len(frames) - used,
        "max_force": max_force,
        "probes": probes,
        "seed": seed,
    }
    return values, detail


def _force_term(gradient: Tensor, z: Tensor, probes: int, gen: torch.Generator) -> Tensor:
    """Estimate of ‖∂F/∂z‖² per group, [n_classes]."""
    out = torch.zeros_like(z)
    for k in range(probes):
        signs = torch.randint(0, 2, gradient.shape, generator=gen).to(gradient) * 2 - 1
        (by_force,) = torch.autograd.grad((signs * gradient).sum(), z, retain_graph=k + 1 < probes)
        out = out + by_force.square()
    return out.detach() / probes
