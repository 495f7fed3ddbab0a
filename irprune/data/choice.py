"""Some structures of a sequence, which know their numbers there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from ase import Atoms


class View(Sequence[Atoms]):
    """Some structures of a sequence, by their numbers; read when one is wanted."""

    def __init__(self, frames: Sequence[Atoms], numbers: Sequence[int]) -> None:
        self.frames, self.numbers = frames, list(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...
    @overload
    def __getitem__(self, index: slice) -> View: ...
    def __getitem__(self, index: int | slice) -> Atoms | View:
        if isinstance(index, slice):
            return View(self.frames, self.numbers[index])
        return self._read(self.frames[self.numbers[index]])

    def _read(self, atoms: Atoms) -> Atoms:
        return atoms


def evenly(frames: Sequence[Atoms], n: int) -> View:
    """At most ``n`` (1 or more) structures, from the first to the last at even distances.

    Files list their structures by kind: the first ones alone would be of one kind.
    """
    last, steps = len(frames) - 1, max(1, n - 1)
    if n > last:
        return View(frames, range(len(frames)))
    return View(frames, [(2 * i * last + steps) // (2 * steps) for i in range(n)])


def number_in(frames: Sequence[Atoms], i: int) -> int:
    """The number that structure ``i`` has in what the user gave, for messages."""
    return number_in(frames.frames, frames.numbers[i]) if isinstance(frames, View) else i
