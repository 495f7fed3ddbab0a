"""Batch: several structures as one set of tensors, in the form that models take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from irprune.atomistic import Atomistic
from irprune.data.neighbours import neighbour_list
from irprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class Batch:
    """B structures, N atoms and E edges in total; atoms of a structure are contiguous."""

    positions: Tensor
    """[N, 3] Å."""
    cell: Tensor
    """[B, 3, 3] Å, rows are the vectors; zeros where a structure has none."""
    species: Tensor
    """[N] int64, index into ``Atomistic.atomic_numbers``."""
    edge_index: Tensor
    """[2, E] int64, numbered over the whole batch."""
    shifts: Tensor
    """[E, 3] whole numbers of cell vectors, in the float dtype of the batch."""
    batch: Tensor
    """[N] int64, structure of each atom."""
    n_atoms: Tensor
    """[B] int64."""
    head: Tensor
    """[N] int64, index into ``Atomistic.heads``."""
    rounding: Tensor
    """[E, 3] Å, what the float dtype of the batch loses of each edge vector when positions and images
    of cells are subtracted: in float32 some 1e-7 of the size of the cell, zero in float64.
    Left out, so zero, for models without ``Atomistic.exact_edges``."""

    def __len__(self) -> int:
        return int(self.n_atoms.shape[0])

    @property
    def n_edges(self) -> int:
        return int(self.edge_index.shape[1])

    @property
    def volume(self) -> Tensor:
        """[B] Å³, |a · (b × c)|; zero where there is no full cell."""
        a, b, c = self.cell.unbind(
            1
        )  # a determinant is a call of a library that no CUDA graph holds
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    @property
    def edge_batch(self) -> Tensor:
        """[E] int64, structure of each edge."""
        return self.batch[self.edge_index[0]]

    def edge_vectors(self) -> Tensor:
        """[E, 3] Å, from the first to the second atom; differentiable in positions and cell."""
        return self._differences() + self.rounding

    def _differences(self) -> Tensor:
        """Edge vectors as the float dtype gives them; the same for one structure and in a batch."""
        first, second = self.edge_index[0], self.edge_index[1]
        images = (self.shifts.unsqueeze(2) * self.cell[self.edge_batch]).sum(dim=1)
        return self.positions[second] - self.positions[first] + images

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Batch:
        """A copy with another float dtype or device, and the same edge vectors."""
        moved = {}
        for f in fields(self):
            value: Tensor = getattr(self, f.name)
            moved[f.name] = value.to(
                device=device, dtype=dtype if value.is_floating_point() else None
            )
        out = replace(self, **moved)
        if dtype in (None, self.positions.dtype):
            return out
        vectors = self.edge_vectors().detach().to(out.positions.device, torch.float64)
        lost = vectors - out._differences().detach()
        return replace(out, rounding=lost.to(out.positions))


def collate(
    frames: Sequence[Atoms],
    atomistic: Atomistic,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    head: str | None = None,
) -> Batch:
    """Neighbour lists, species and heads of ``frames`` as one batch.

    Raises:
        DataError: an element that the model does not know, or an unusable cell.
        UsageError: no frames, or a head that the model does not have.
    """
    if not frames:
        raise UsageError("cannot make a batch of no structures")
    head_index = atomistic.head_index(head)
    return concatenate([_single(atoms, atomistic, head_index, dtype) for atoms in frames]).to(
        device=device
    )


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One batch of the structures of several, in order."""
    if not batches:
        raise UsageError("cannot concatenate no batches")
    if len(batches) == 1:
        return batches[0]
    atoms_before = np.cumsum([0, *(b.positions.shape[0] for b in batches)])[:-1].tolist()
    graphs_before = np.cumsum([0, *(len(b) for b in batches)])[:-1].tolist()
    return Batch(
        positions=torch.cat([b.positions for b in batches]),
        cell=torch.cat([b.cell for b in batches]),
        species=torch.cat([b.species for b in batches]),
        edge_index=torch.cat(
            [b.edge_index + n for b, n in zip(batches, atoms_before, strict=True)], dim=1
        ),
        shifts=torch.cat([b.shifts for b in batches]),
        batch=torch.cat([b.batch + n for b, n in zip(batches, graphs_before, strict=True)]),
        n_atoms=torch.cat([b.n_atoms for b in batches]),
        head=torch.cat([b.head for b in batches]),
        rounding=torch.cat([b.rounding for b in batches]),
    )


def batches(
    frames: Sequence[Atoms],
    atomistic: Atomistic,
    batch_size: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    head: str | None = None,
) -> Iterator[Batch]:
    """``frames`` in order, ``batch_size`` structures at a time; the last batch may be smaller.

    Raises:
        UsageError: a batch size below one.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    for start in range(0, len(frames), batch_size):
        yield collate(frames[start : start + batch_size], atomistic, dtype, device, head)


def _single(atoms: Atoms, atomistic: Atomistic, head: int, dtype: torch.dtype) -> Batch:
    edge_index, shifts = neighbour_list(atoms, atomistic.cutoff)
    n = len(atoms)
    exact = Batch(
        positions=torch.tensor(atoms.positions, dtype=torch.float64),
        cell=torch.tensor(np.array(atoms.cell)[None], dtype=torch.float64),
        species=torch.from_numpy(atomistic.species_of(atoms.numbers)),
        edge_index=torch.from_numpy(edge_index),
        shifts=torch.tensor(shifts, dtype=torch.float64),
        batch=torch.zeros(n, dtype=torch.int64),
        n_atoms=torch.tensor([n], dtype=torch.int64),
        head=torch.full((n,), head, dtype=torch.int64),
        rounding=torch.zeros(edge_index.shape[1], 3, dtype=torch.float64),
    )
    made = exact.to(dtype)
    return made if atomistic.exact_edges else replace(made, rounding=made.rounding * 0)
