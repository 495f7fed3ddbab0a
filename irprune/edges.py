"""Edges in the orders that kernels walk them: by receiver and by sender, packed into one tensor.

The packed tensor is int64 and holds, for E edges and N atoms: senders [E], receivers [E], the row of
weights of each edge [E], edges by receiver [E] and where each atom's begin [N + 1], edges by sender
[E] and where each atom's begin [N + 1], and whether an edge is the first by sender that uses its row
of weights [E].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irprune.errors import UsageError
from irprune.shapes import values_matter
from irprune.waiting import would_wait


@dataclass(frozen=True, eq=False)
class EdgeLists:
    """The parts of a packed tensor, as views."""

    sender: Tensor
    receiver: Tensor
    row: Tensor
    by_receiver: Tensor
    receiver_ends: Tensor
    by_sender: Tensor
    sender_ends: Tensor
    first: Tensor


def pack(sender: Tensor, receiver: Tensor, n: int, row: Tensor | None = None) -> Tensor:
    """Sorts edges and packs them, without a look at a value where that would wait for the device.

    Args:
        sender: [E], atom whose features an edge reads.
        receiver: [E], atom that an edge adds to.
        n: number of atoms.
        row: [E], row of the weights that an edge uses; its own number by default. At most two
            edges share one.

    Raises:
        UsageError: more than two edges share a row. On a GPU that is not looked for.
    """
    count = sender.shape[0]
    if row is None:
        row = torch.arange(count, device=sender.device)
    elif count and not would_wait(row) and int(torch.bincount(row).max()) > 2:
        raise UsageError("more than two edges share a row of weights")
    parts = [sender, receiver, row]
    for ends in (receiver, sender):
        order = torch.argsort(ends, stable=True)
        starts = torch.zeros(n + 1, dtype=torch.int64, device=ends.device)
        each = torch.zeros(n, dtype=torch.int64, device=ends.device)
        starts[1:] = each.scatter_add_(0, ends, torch.ones_like(ends)).cumsum(0)
        parts += [order, starts]
    order = parts[5]
    first = torch.full((count,), count, dtype=torch.int64, device=sender.device)
    place = torch.arange(count, device=sender.device)
    first.scatter_reduce_(0, row[order], place, reduce="amin")
    mine = torch.empty_like(place)
    mine[order] = place
    parts.append((first[row] == mine).to(torch.int64))
    return torch.cat(parts)


def unpack(edges: Tensor, n: int) -> EdgeLists:
    """The parts of a packed tensor for ``n`` atoms."""
    count = (edges.shape[0] - 2 * (n + 1)) // 6
    sizes = [count, count, count, count, n + 1, count, n + 1, count]
    return EdgeLists(*edges.split(sizes))


def pairs(
    sender: Tensor, receiver: Tensor, vectors: Tensor, complete: bool = False
) -> tuple[Tensor, Tensor]:
    """Edges and their reverses, so that what depends on the distance alone is computed once.

    Two edges belong together where sender and receiver are exchanged and the vectors are exact
    negatives. An edge without its reverse stands alone. How many pairs there are is known from values
    only: on a GPU this waits, unless they are said to be complete.

    Args:
        sender: [E].
        receiver: [E].
        vectors: [E, 3] Å.
        complete: every edge has its reverse, and none is there twice, as in a full neighbour list:
            there are E / 2 pairs.

    Returns:
        The edges that stand for their pair, [P], and for each edge the number of its pair, [E].

    Raises:
        UsageError: they are not complete. On a GPU the program ends then (a device-side assertion).
    """
    count = sender.shape[0]
    order, same = _side_by_side(sender, receiver, vectors)
    place = torch.arange(count, device=sender.device)
    if complete and values_matter():
        _expect_complete(count, same)
        a, b = order.view(-1, 2).unbind(1)
        number = torch.empty_like(place)
        number[order] = place // 2
        return torch.minimum(a, b), number
    stands = place.clone()
    a, b = order[:-1][same], order[1:][same]
    stands[torch.maximum(a, b)] = torch.minimum(a, b)
    first = stands == place
    return first.nonzero().squeeze(1), (first.cumsum(0) - 1)[stands]


def _side_by_side(sender: Tensor, receiver: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """An order [E] in which an edge and its reverse are neighbours, and whether each edge but the last
    belongs to the next, [E - 1].
    """
    flip = sender > receiver
    loops = sender == receiver
    # edges of an atom to its own images: by the sign of the first component that is not zero
    for axis in range(vectors.shape[1]):
        undecided = loops & (vectors[:, :axis] == 0).all(dim=1)
        flip = flip | (undecided & (vectors[:, axis] < 0))
    low, high = torch.minimum(sender, receiver), torch.maximum(sender, receiver)
    canonical = torch.where(flip.unsqueeze(1), -vectors, vectors) + 0.0  # -0.0 is 0.0
    # equal edges come to lie side by side; which do is then compared, not believed
    order = torch.argsort((_hash(low, high, canonical) & ~1) | flip.long())
    a, b = order[:-1], order[1:]
    same = (
        (low[a] == low[b])
        & (high[a] == high[b])
        & (canonical[a] == canonical[b]).all(dim=1)
        & (flip[a] != flip[b])
    )
    return order, same


def _expect_complete(count: int, same: Tensor) -> None:
    """Refuses edges that are not all pairs in the order that ``_side_by_side`` gives."""
    expected = "every edge once, with its reverse (share-pairs{complete=true})"
    if count % 2:
        raise UsageError(f"{count} edges were given, expected {expected}")
    paired = same[::2].all()
    if would_wait(paired):
        torch._assert_async(paired, f"edges without their reverse; expected {expected}")
    elif not paired:
        missing = int((~same[::2]).sum())
        raise UsageError(
            f"of {count} edges about {2 * missing} have no reverse, or are there twice; expected"
            f" {expected}"
        )


def _hash(low: Tensor, high: Tensor, vectors: Tensor) -> Tensor:
    """[E] int64 that are equal for equal atoms and vectors, and nearly never for others."""
    words = vectors.double().contiguous().view(torch.int64)
    out = low
    for word in (high, *words.unbind(1)):
        out = (out ^ (out >> 29)) * MIXER + word
    return (out ^ (out >> 29)) * MIXER


MIXER = -7046029254386353131
"""An odd number with bits all over: 2⁶⁴ over the golden ratio, as int64 (Knuth, section 6.4)."""
