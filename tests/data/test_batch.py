from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from irprune.atomistic import Atomistic
from irprune.data.batch import batches, collate, concatenate
from irprune.data.neighbours import edge_vectors, neighbour_list
from irprune.errors import DataError, UsageError
from tests.toys import TOY

FRAMES = [bulk("Cu", cubic=True), molecule("H2O"), Atoms("O"), bulk("Si")]


def test_a_batch_holds_every_structure_in_order() -> None:
    batch = collate(FRAMES, TOY)
    assert len(batch) == 4
    assert batch.n_atoms.tolist() == [4, 3, 1, 2]
    assert batch.batch.tolist() == [0] * 4 + [1] * 3 + [2] + [3] * 2
    assert batch.species.tolist() == [4] * 4 + [2, 0, 0] + [2] + [3] * 2
    assert batch.head.tolist() == [0] * 10
    assert batch.positions.dtype == torch.float64
    vectors = batch.edge_vectors()
    start, atom = 0, 0
    for atoms in FRAMES:
        index, shifts = neighbour_list(atoms, TOY.cutoff)
        stop = start + index.shape[1]
        assert (batch.edge_index[:, start:stop].numpy() == index + atom).all()
        expected = edge_vectors(atoms, index, shifts)
        assert np.allclose(vectors[start:stop].numpy(), expected, atol=1e-13)
        start, atom = stop, atom + len(atoms)
    assert start == batch.n_edges


def test_volume_is_zero_without_a_cell() -> None:
    volume = collate(FRAMES, TOY).volume
    assert volume.tolist() == pytest.approx([FRAMES[0].cell.volume, 0, 0, FRAMES[3].cell.volume])


def test_concatenate_equals_collate() -> None:
    whole = collate(FRAMES, TOY)
    joined = concatenate([collate(FRAMES[:1], TOY), collate(FRAMES[1:], TOY)])
    for name in vars(whole):
        assert torch.equal(getattr(whole, name), getattr(joined, name)), name


def test_to_changes_floats_only() -> None:
    batch = collate(FRAMES, TOY).to(torch.float32)
    assert batch.positions.dtype == batch.cell.dtype == batch.shifts.dtype == torch.float32
    assert batch.species.dtype == batch.edge_index.dtype == torch.int64


def test_batches_cover_all_frames() -> None:
    parts = list(batches(FRAMES, TOY, 3, torch.float32))
    assert [len(b) for b in parts] == [3, 1]
    with pytest.raises(UsageError, match="batch_size"):
        list(batches(FRAMES, TOY, 0))


def test_heads_and_errors() -> None:
    two = Atomistic("mace", 4.0, (1, 8), heads=("a", "b"))
    assert collate([molecule("H2O")], two, head="b").head.tolist() == [1, 1, 1]
    with pytest.raises(UsageError, match="several heads"):
        collate([molecule("H2O")], two)
    with pytest.raises(DataError, match="Cu is not known"):
        collate(FRAMES, two, head="a")
    with pytest.raises(UsageError, match="no structures"):
        collate([], TOY)
