"""The profile of a model: nodes, ops, the call as a whole, and the peaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from ase import Atoms

from irprune.compiled import counts_of
from irprune.errors import UsageError
from irprune.evaluate.potential import Potential
from irprune.profile.nodes import NodeTime, node_times
from irprune.profile.peaks import Peaks, measure, seconds

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Profile:
    """Where the time of one call for energy, forces and stress goes, in seconds."""

    atoms: int
    edges: int
    threads: int
    dtype: str
    peaks: Peaks
    nodes: tuple[NodeTime, ...]
    neighbours: float
    """Structures to tensors, neighbour list included."""
    call: float
    """Energy, forces and stress of the tensors."""
    compiled: Mapping[str, Any] | None = None
    """Of the call: backend, and counts of what torch.compile made. Nodes are timed as they are."""

    @property
    def inside(self) -> float:
        """All nodes, forward and backward."""
        return sum(n.seconds for n in self.nodes)

    def by_op(self) -> list[dict[str, Any]]:
        """Sums over the nodes of each op, the slowest first."""
        rows = []
        for op in dict.fromkeys(n.op for n in self.nodes):
            mine = [n for n in self.nodes if n.op == op]
            forward = sum(n.forward for n in mine)
            rows.append(
                {
                    "op": op,
                    "nodes": len(mine),
                    "forward": forward,
                    "backward": sum(n.backward for n in mine),
                    "flops": sum(n.flops for n in mine),
                    "bytes": sum(n.bytes for n in mine),
                    "share_of_peak": sum(n.least for n in mine) / forward if forward else 0.0,
                }
            )
        return sorted(rows, key=lambda r: -(r["forward"] + r["backward"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "atoms": self.atoms,
            "edges": self.edges,
            "threads": self.threads,
            "dtype": self.dtype,
            "peak_flops": self.peaks.flops,
            "peak_bandwidth": self.peaks.bandwidth,
            "seconds_call": self.call,
            "seconds_neighbours": self.neighbours,
            "seconds_nodes": self.inside,
            "by_op": self.by_op(),
            "nodes": [n.to_json() for n in self.nodes],
            "compiled": self.compiled,
        }


def profile(
    graph: EquivariantGraph,
    atoms: Atoms,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Measures a model on one structure, with the threads that torch has now.

    Raises:
        UsageError: a network that does not run on atoms, or a structure without neighbours.
    """
    if graph.atomistic is None:
        raise UsageError("profile needs an interatomic potential; this graph has no elements")
    potential = Potential(graph.runnable(), graph.atomistic, graph.atomistic.any_head())
    batch = potential.collate([atoms])
    if not batch.n_edges:
        raise UsageError(
            f"{atoms.get_chemical_formula()} has no atoms closer than {graph.atomistic.cutoff} Å,"
            " so there is nothing to measure; give a structure with neighbours"
        )
    for _ in range(3):  # TorchScript specializes, kernels are compiled
        potential.evaluate(batch, stress=True)
    peaks = measure(potential.dtype)
    return Profile(
        len(atoms),
        batch.n_edges,
        torch.get_num_threads(),
        str(potential.dtype).removeprefix("torch."),
        peaks,
        tuple(node_times(graph, batch, peaks, repeats, progress)),
        seconds(lambda: potential.collate([atoms]), repeats),
        seconds(lambda: potential.evaluate(batch, stress=True), repeats),
        counts_of(potential),
    )
