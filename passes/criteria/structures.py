"""A structure as a graph wants it, with positions to differentiate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from irprune.data.batch import collate
from irprune.graph import EquivariantGraph

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure on the device of a graph, in the dtype of its parameters."""

    frame: Atoms
    positions: Tensor
    """[N, 3] Å, a leaf that takes a gradient."""
    call: tuple[Tensor, ...]
    """Inputs of the graph: edge vectors (functions of the positions), species, edge index, head."""

    @classmethod
    def of(cls, graph: EquivariantGraph, frame: Atoms) -> Structure:
        """The structure, for one head of a model that has several."""
        assert graph.atomistic is not None
        like = next(p for p in graph.gm.parameters() if p.is_floating_point())
        head = graph.atomistic.any_head()
        batch = collate([frame], graph.atomistic, like.dtype, like.device, head)
        positions = batch.positions.clone().requires_grad_(True)
        first, second = batch.edge_index
        moved = positions[second] - positions[first]
        still = batch.positions[second] - batch.positions[first]
        vectors = batch.edge_vectors() + (moved - still)
        return cls(frame, positions, (vectors, batch.species, batch.edge_index, batch.head))

    @property
    def n_atoms(self) -> int:
        return int(self.positions.shape[0])

    @property
    def n_edges(self) -> int:
        return int(self.call[0].shape[0])

    @property
    def device(self) -> torch.device:
        return self.positions.device


def structures(graph: EquivariantGraph, frames: Sequence[Atoms]) -> Iterator[Structure]:
    """The structures one by one."""
    for frame in frames:
        yield Structure.of(graph, frame)
