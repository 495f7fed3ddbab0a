"""Packed edges and pairs of edges."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from irprune.data.neighbours import edge_vectors, neighbour_list
from irprune.edges import pack, pairs, unpack
from irprune.errors import UsageError

QUICK = settings(
    max_examples=30, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)


@QUICK
@given(nodes=st.integers(1, 8), count=st.integers(0, 30), seed=st.integers(0, 999))
def test_pack_and_unpack(nodes, count, seed):
    g = torch.Generator().manual_seed(seed)
    sender, receiver = torch.randint(0, nodes, (2, count), generator=g)
    lists = unpack(pack(sender, receiver, nodes), nodes)
    assert torch.equal(lists.sender, sender)
    assert torch.equal(lists.receiver, receiver)
    assert torch.equal(lists.row, torch.arange(count))
    assert torch.equal(lists.first, torch.ones(count, dtype=torch.int64))
    for ends, order, starts in (
        (receiver, lists.by_receiver, lists.receiver_ends),
        (sender, lists.by_sender, lists.sender_ends),
    ):
        assert sorted(order.tolist()) == list(range(count))
        for n in range(nodes):
            mine = order[starts[n] : starts[n + 1]]
            assert torch.equal(ends[mine], torch.full_like(mine, n))
        assert int(starts[-1]) == count


def test_the_first_edge_of_a_row_is_the_first_by_sender():
    sender = torch.tensor([2, 0, 1, 0])
    receiver = torch.tensor([0, 2, 0, 1])
    lists = unpack(pack(sender, receiver, 3, torch.tensor([0, 0, 1, 1])), 3)
    assert lists.by_sender.tolist() == [1, 3, 2, 0]
    assert lists.first.tolist() == [0, 1, 0, 1]


def check(sender, receiver, vectors, complete=False):
    stand, number = pairs(sender, receiver, vectors, complete)
    assert torch.equal(number[stand], torch.arange(len(stand)))
    for pair in range(len(stand)):
        members = (number == pair).nonzero().flatten().tolist()
        assert 1 <= len(members) <= 2
        if len(members) == 2:
            a, b = members
            assert (int(sender[a]), int(receiver[a])) == (int(receiver[b]), int(sender[b]))
            assert torch.equal(vectors[a], -vectors[b])
    return stand, number


def test_every_edge_of_a_crystal_has_its_reverse():
    """Said to be complete, the same pairs are found without counting them."""
    for atoms in (bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1), bulk("Si")):
        atoms.rattle(0.05, seed=1)
        index, shifts = neighbour_list(atoms, 5.0)
        vectors = torch.from_numpy(edge_vectors(atoms, index, shifts))
        sender, receiver = torch.from_numpy(index)
        stand, _ = check(sender, receiver, vectors)
        assert 2 * len(stand) == len(sender)
        check(sender, receiver, vectors.float())
        first, number = check(sender, receiver, vectors, complete=True)
        assert sorted(first.tolist()) == sorted(stand.tolist())
        assert len(number) == len(sender)
    check(*(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, 3), complete=True)


@pytest.mark.parametrize("change", ["odd", "missing", "twice", "almost"])
def test_pairs_that_are_not_complete_are_refused(change):
    sender, receiver = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 0, 2])
    vectors = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]])
    check(sender, receiver, vectors, complete=True)
    expected = "expected every edge once, with its reverse (share-pairs{complete=true})"
    said = f"of 4 edges about 2 have no reverse, or are there twice; {expected}"
    if change == "odd":
        sender, receiver, vectors = sender[:3], receiver[:3], vectors[:3]
        said = f"3 edges were given, {expected}"
    elif change == "missing":
        receiver[1] = 2
    elif change == "twice":
        sender[1], receiver[1], vectors[1] = sender[0], receiver[0], vectors[0]
    else:
        vectors[1, 0] = -1.0 - 1e-6
    with pytest.raises(UsageError) as error:
        pairs(sender, receiver, vectors, complete=True)
    assert str(error.value) == said


@QUICK
@given(count=st.integers(0, 12), seed=st.integers(0, 999), images=st.booleans())
def test_half_of_the_reverses_are_missing(count, seed, images):
    g = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, 3, (2, count), generator=g)
    if images:
        ends[1] = ends[0]
    vectors = torch.randint(-2, 3, (count, 3), generator=g).double() + 0.25
    some = torch.arange(count // 2)
    sender = torch.cat([ends[0], ends[1][some]])
    receiver = torch.cat([ends[1], ends[0][some]])
    everything = torch.cat([vectors, -vectors[some]])
    order = torch.randperm(len(sender), generator=g)
    stand, _ = check(sender[order], receiver[order], everything[order])
    assert len(stand) >= len(sender) - count


def test_vectors_that_are_almost_opposite_stay_apart():
    sender, receiver = torch.tensor([0, 1]), torch.tensor([1, 0])
    vectors = torch.tensor([[1.0, 0, 0], [-1.0 - 1e-15, 0, 0]], dtype=torch.float64)
    assert len(pairs(sender, receiver, vectors)[0]) == 2
    vectors[1, 0] = -1.0
    assert len(pairs(sender, receiver, vectors)[0]) == 1
