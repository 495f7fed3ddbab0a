"""Delta debugging: a smallest part of a list that still fails (Zeller and Hildebrandt 2002)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def smallest(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """A part of ``items`` that fails, of which no single item can be left out: *1-minimal*.

    Smaller parts that fail may exist where what fails is not monotone. ``fails`` is called once for
    each part that is tried; the whole is taken to fail.

    Args:
        items: in the order that their parts keep.
        fails: whether a part still fails.
    """
    found, pieces = tuple(items), 2
    known: dict[tuple[T, ...], bool] = {}

    def failing(part: tuple[T, ...]) -> bool:
        if part not in known:
            known[part] = fails(part)
        return known[part]

    if failing(()):
        return ()
    while len(found) > 1:
        pieces = min(pieces, len(found))
        ends = [round(i * len(found) / pieces) for i in range(pieces + 1)]
        cuts = list(itertools.pairwise(ends))
        part = next((found[a:b] for a, b in cuts if failing(found[a:b])), None)
        if part is not None:
            found, pieces = part, 2
            continue
        rest = next((r for a, b in cuts if failing(r := found[:a] + found[b:])), None)
        if rest is not None:
            found, pieces = rest, max(pieces - 1, 2)
        elif pieces == len(found):
            break
        else:
            pieces *= 2
    return found
