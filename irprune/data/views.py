"""Sequences of structures that change or choose from others without reading them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

from ase import Atoms

from irprune.errors import DataError, UsageError

KEYS = {"energy": "info", "forces": "arrays", "stress": "info", "virial": "info"}
"""Labels that may have keys of the user's own, and where these are looked for."""


class View(Sequence[Atoms]):
    """Some structures of a sequence, by their numbers."""

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


class Keyed(View):
    """Structures whose labels have keys of their own: these are read as REF_energy and so on."""

    def __init__(self, frames: Sequence[Atoms], keys: Mapping[str, str]) -> None:
        """
        Raises:
            DataError: a structure lacks one of the keys (when it is read).
        """
        super().__init__(frames, range(len(frames)))
        self.keys = dict(keys)

    def __getitem__(self, index: int | slice) -> Atoms | View:
        if isinstance(index, slice):
            return View(self, range(len(self))[index])
        return super().__getitem__(index)

    def _read(self, atoms: Atoms) -> Atoms:
        for label, key in self.keys.items():
            store = getattr(atoms, KEYS[label])
            if key not in store:
                raise DataError(
                    f"a structure ({atoms.get_chemical_formula()}) has no {key!r} in its"
                    f" {KEYS[label]}, where its {label} was to be; there are"
                    f" {', '.join(sorted(store)) or 'none'}"
                )
            store[f"REF_{label}"] = store[key]
        return atoms


def parse_keys(text: str) -> dict[str, str]:
    """``energy=my_energy,forces=F`` → label → key.

    Raises:
        UsageError: another label, or no key.
    """
    out = {}
    for part in text.split(","):
        label, _, key = part.partition("=")
        if label.strip() not in KEYS or not key.strip():
            raise UsageError(
                f"keys are LABEL=KEY,… with labels {', '.join(KEYS)}, got {text!r}; for example"
                " energy=my_energy,forces=my_forces"
            )
        out[label.strip()] = key.strip()
    return out
