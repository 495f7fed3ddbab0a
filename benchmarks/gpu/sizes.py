"""Crystals with about as many atoms as were asked for."""

from __future__ import annotations

import math
from itertools import product

from ase import Atoms

SLENDER = 0.05
"""What a factor of e between the longest and the shortest side costs, in relative atoms."""


def near(unit: Atoms, atoms: int) -> Atoms:
    """The crystal repeated along its periodic axes to nearly ``atoms`` atoms, and nearly to a cube.

    Repeating by two alone gives 6144 atoms of 6 where 4096 are wanted.
    """
    repeats = max(1.0, atoms / len(unit))
    lengths = unit.cell.lengths()
    periodic = [bool(p) and length > 0 for p, length in zip(unit.pbc, lengths, strict=True)]
    if not any(periodic):
        return unit.copy()
    sides = [length for length, p in zip(lengths, periodic, strict=True) if p]
    edge = (repeats * math.prod(sides)) ** (1 / len(sides))

    def counts(length: float, is_periodic: bool) -> range:
        most = math.ceil(2 * edge / length) if is_periodic else 1
        return range(1, most + 1)

    def cost(times: tuple[int, ...]) -> float:
        grown = [n * side for n, side, p in zip(times, lengths, periodic, strict=True) if p]
        slender = math.log(max(grown) / min(grown))
        return abs(math.log(math.prod(times) / repeats)) + SLENDER * slender

    every = product(*(counts(side, p) for side, p in zip(lengths, periodic, strict=True)))
    return unit.repeat(min(every, key=cost))
