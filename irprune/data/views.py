"""Structures whose labels have keys of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from irprune.data.choice import View
from irprune.data.frames import REFERENCE_STRESSES
from irprune.errors import DataError, UsageError

KEYS = {"energy": "info", "forces": "arrays", "stress": "info", "virial": "info"}
"""Labels that may have keys of the user's own, and where these are looked for."""


class Keyed(View):
    """Structures whose labels have keys of their own: these are read as REF_energy and so on.

    A key is looked for in ``info`` (forces: ``arrays``, then ``info``), then in the results of the
    calculator, where ASE puts energy, free_energy, forces and stress of a file.
    """

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
        out = atoms.copy()
        out.calc = atoms.calc
        for label, key in self.keys.items():
            stores = [getattr(atoms, KEYS[label]), atoms.info, getattr(atoms.calc, "results", {})]
            store = next((s for s in stores if key in s), None)
            if store is None:
                raise DataError(
                    f"a structure ({atoms.get_chemical_formula()}) has no {key!r} in its"
                    f" {KEYS[label]}, where its {label} was to be; there are"
                    f" {', '.join(sorted({k for s in stores for k in s})) or 'none'}"
                )
            if label in ("stress", "virial"):  # one label: what the file says besides is not asked
                for other in REFERENCE_STRESSES:
                    out.info.pop(other, None)
            getattr(out, KEYS[label])[f"REF_{label}"] = np.asarray(store[key])
        return out


def parse_keys(text: str) -> dict[str, str]:
    """``energy=my_energy,forces=F`` → label → key.

    Raises:
        UsageError: another label, no key, or both stress and virial.
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
    if {"stress", "virial"} <= set(out):
        raise UsageError(
            f"keys name stress and virial, which are one label; name one, got {text!r}"
        )
    return out
