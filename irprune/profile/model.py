"""The profile of a model: nodes, ops, the call as a whole, and the peaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from ase import Atoms

from irprune.compiling.compiled import counts_of
from irprune.errors import UsageError
from irprune.evaluation.potential import Potential
from irprune.latency import estimate
from irprune.profile.nodes import NodeTime, node_times
from irprune.profile.peaks import Peaks, measure, seconds

if TYPE_CHECKING:
    from irprune.data.batch import Batch
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
    estimate: float
    """What the cost model says of the call (``irprune.latency``), with these peaks."""
    compiled: Mapping[str, Any] | None = None
    """Of the call: backend, and counts of what torch.compile made. Nodes are timed as they are."""

    @property
    def inside(self) -> float:
        """All nodes, forward and backward."""
        return sum(n.seconds for n in self.nodes)

    @property
    def outside(self) -> float:
        """The part of the call that no node took. Below 0 where nodes by themselves, each with a
        backward pass of its own, take longer than within the call.
        """
        return self.call - self.inside

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
            "seconds_outside": self.outside,
            "seconds_estimated": self.estimate,
            "by_op": self.by_op(),
            "nodes": [n.to_json() for n in self.nodes],
            "compiled": self.compiled,
        }


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and a structure, ready to be timed: kernels compiled, TorchScript specialized."""

    graph: EquivariantGraph
    atoms: Atoms
    potential: Potential
    batch: Batch

    def call(self) -> object:
        """Energy, forces and stress."""
        return self.potential.evaluate(self.batch, stress=True)

    def collate(self) -> object:
        """The structure to tensors, neighbour list included."""
        return self.potential.collate([self.atoms])

    def profile(
        self, peaks: Peaks, call: float, nodes: Sequence[NodeTime], repeats: int
    ) -> Profile:
        """What was measured elsewhere, and the neighbour list, as one profile."""
        dtype = str(self.potential.dtype).removeprefix("torch.")
        return Profile(
            len(self.atoms),
            self.batch.n_edges,
            torch.get_num_threads(),
            dtype,
            peaks,
            tuple(nodes),
            seconds(self.collate, repeats),
            call,
            estimate(self.graph, len(self.atoms), self.batch.n_edges, peaks),
            counts_of(self.potential),
        )


def ready(graph: EquivariantGraph, atoms: Atoms) -> Subject:
    """A model on a structure after its first, slow calls.

    Raises:
        UsageError: a network that does not run on atoms, or a structure without neighbours.
        DataError: an element that the model does not know.
    """
    if graph.atomistic is None:
        raise UsageError("profile needs an interatomic potential; this graph has no elements")
    potential = Potential(graph.runnable(), graph.atomistic, graph.atomistic.any_head())
    subject = Subject(graph, atoms, potential, potential.collate([atoms]))
    if not subject.batch.n_edges:
        raise UsageError(
            f"{atoms.get_chemical_formula()} has no atoms closer than {graph.atomistic.cutoff} Å,"
            " so there is nothing to measure; give a structure with neighbours"
        )
    for _ in range(3):
        subject.call()
    return subject


def profile(
    graph: EquivariantGraph,
    atoms: Atoms,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Measures a model on one structure, with the threads that torch has now.

    Raises:
        UsageError: a network that does not run on atoms, or a structure without neighbours.
        DataError: an element that the model does not know.
    """
    subject = ready(graph, atoms)
    peaks = measure(subject.potential.dtype)
    nodes = node_times(graph, subject.batch, peaks, repeats, progress)
    return subject.profile(peaks, seconds(subject.call, repeats), nodes, repeats)
