"""Which layer each node of a graph belongs to, by what it leads to.

Labels name the values that end layers. A node belongs to the first layer that it leads to without
passing through the end of one. What leads to several, and comes after none, is made once for all of
them (distances, harmonics, elements): the first band. What leads to none is the readout.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

SHARED = "embedding"
READOUT = "readout"
WHOLE = "model"
"""The one layer of a graph without labels."""

_NUMBERED = re.compile(r"^layer \d+")


def band_of(label: str) -> str:
    """The layer of a label: ``layer 1 message`` and ``layer 1 hidden`` are two values of one layer."""
    found = _NUMBERED.match(label)
    return found[0] if found else label


def ends_of(
    reads: Mapping[str, Sequence[str]], labels: Mapping[str, str], alone: Collection[str]
) -> dict[str, str]:
    """Node that ends a layer → the layer.

    That is the labelled value, or what sums and the like make of it where nothing else reads it: the
    residual connection still belongs to the layer.

    Args:
        reads: node → the nodes that it reads, in graph order.
        labels: label → node; those whose node is not in the graph count for nothing.
        alone: nodes that are calls of functions with a value of irreps.
    """
    readers: dict[str, list[str]] = {n: [] for n in reads}
    for n, sources in reads.items():
        for s in sources:
            readers[s].append(n)
    found = {}
    for label, node in labels.items():
        if node in reads:
            at = node
            while len(readers[at]) == 1 and readers[at][0] in alone:
                at = readers[at][0]
            found[at] = band_of(label)
    return found


def layers_of(reads: Mapping[str, Sequence[str]], ends: Mapping[str, str]) -> dict[str, str]:
    """Node → its layer.

    Args:
        reads: node → the nodes that it reads, in graph order.
        ends: as :func:`ends_of` gives them.
    """
    if not ends:
        return dict.fromkeys(reads, WHOLE)
    order = list(dict.fromkeys(ends[n] for n in reads if n in ends))
    leads: dict[str, set[str]] = {n: set() for n in reads}
    after: dict[str, bool] = {}
    for n, sources in reads.items():
        after[n] = any(s in ends or after[s] for s in sources)
    for n in reversed(list(reads)):
        for s in reads[n]:
            leads[s] |= {ends[n]} if n in ends else leads[n]
    out = {}
    for n in reads:
        if n in ends:
            out[n] = ends[n]
        elif not leads[n]:
            out[n] = READOUT
        elif len(leads[n]) > 1 and not after[n]:
            out[n] = SHARED
        else:
            out[n] = min(leads[n], key=order.index)
    return out


def in_order(found: Mapping[str, str]) -> list[str]:
    """The layers that have nodes: the shared one first, then as they come, the readout last."""
    names = list(dict.fromkeys(found.values()))
    first = [n for n in names if n == SHARED]
    last = [n for n in names if n == READOUT]
    return first + [n for n in names if n not in (SHARED, READOUT)] + last
