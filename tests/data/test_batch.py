from __future__ import annotations

from dataclasses import replace

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


def test_edge_vectors_in_float32_lose_no_more_than_their_own_rounding() -> None:
    """Positions and cells are ten times as large as the vectors; far from the origin even more."""
    crystal = bulk("Cu", cubic=True).repeat(4)
    crystal.rattle(0.1, seed=0)
    far = crystal.copy()
    far.positions += 300.0
    molecules = molecule("H2O")
    molecules.positions += 300.0
    frames = [crystal, far, molecules]
    exact = collate(frames, TOY).edge_vectors()
    batch = collate(frames, TOY, torch.float32)
    eps = torch.finfo(torch.float32).eps
    assert batch.edge_vectors().dtype == torch.float32
    assert (batch.edge_vectors() - exact).abs().max() <= 2 * eps * exact.abs().max()
    assert (batch._differences() - exact).abs().max() > 50 * eps * exact.abs().max()
    assert torch.equal(collate(frames, TOY).to(torch.float32).edge_vectors(), batch.edge_vectors())
    again = batch.to(torch.float64)
    assert torch.equal(again.edge_vectors().float(), batch.edge_vectors())


def test_edge_vectors_as_the_family_subtracts_them() -> None:
    """MACE subtracts positions in its own dtype: equal to it, bit for bit, and not more precise."""
    crystal = bulk("Cu", cubic=True).repeat(2)
    crystal.rattle(0.1, seed=0)
    mace = replace(TOY, exact_edges=False)
    batch = collate([crystal], mace, torch.float32)
    assert not batch.rounding.any()
    assert torch.equal(batch.edge_vectors(), batch._differences())
    assert not torch.equal(
        collate([crystal], TOY, torch.float32).edge_vectors(), batch._differences()
    )
    exact = collate([crystal], mace).edge_vectors()
    assert torch.equal(exact, collate([crystal], TOY).edge_vectors())


def test_an_edge_and_its_reverse_are_exact_negatives_in_float32() -> None:
    crystal = bulk("Si", cubic=True).repeat(2)
    crystal.rattle(0.1, seed=1)
    batch = collate([crystal], TOY, torch.float32)
    vectors = batch.edge_vectors()
    keys = {
        (*index, *map(int, shift)): v
        for index, shift, v in zip(
            batch.edge_index.T.tolist(), batch.shifts.tolist(), vectors, strict=True
        )
    }
    for (i, j, *shift), v in keys.items():
        assert torch.equal(keys[(j, i, *(-s for s in shift))], -v)
