"""The sums of a score on disk: what a run that was killed continues from. No pickles."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from irprune.data.frames import LABELS, labels_of
from irprune.errors import UsageError
from irprune.graph import EquivariantGraph

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.passes.criteria.loop import Sums

EVERY = 5.0
"""Seconds between two writes."""


@dataclass(eq=False)
class Checkpoint:
    """A safetensors file with the sums and the state of the generator; its settings as JSON.

    The file is written beside its place and renamed, so that whoever is killed leaves a whole one.
    """

    path: Path
    settings: Mapping[str, Any]
    """What must be the same for a run to go on."""
    _written: float = field(default_factory=time.monotonic)

    def keep(self, sums: Sums, last: bool = False) -> None:
        """Writes the sums, if it is time."""
        if not last and time.monotonic() - self._written < EVERY:
            return
        part = self.path.with_name(self.path.name + ".part")
        tensors = {
            "values": sums.values,
            "weights": sums.weights,
            "generator": sums.generator.get_state(),
        }
        meta = {"settings": self.settings, "done": sums.done, "used": sums.used}
        save_file(tensors, part, {"irprune-score": json.dumps(meta)})
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, self.path)
        self._written = time.monotonic()

    def restore(self, sums: Sums) -> None:
        """Puts what is in the file, if there is one, into ``sums``.

        Raises:
            UsageError: the file cannot be read, or is of a run with other settings; names them.
        """
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, "pt") as file:
                meta = json.loads(file.metadata()["irprune-score"])
                saved, done, used = meta["settings"], int(meta["done"]), int(meta["used"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            changed = [k for k in self.settings if saved.get(k) != self.settings[k]]
        except Exception as error:  # safetensors and JSON raise many kinds for files of others
            raise UsageError(
                f"score: cannot continue from {self.path} ({type(error).__name__}); it is no"
                " checkpoint of a score: delete it, or name another file"
            ) from error
        if changed:
            text = ", ".join(_difference(k, saved.get(k), self.settings[k]) for k in changed)
            raise UsageError(
                f"score: cannot continue from {self.path}, which is of another run: {text};"
                " delete it, or name another file"
            )
        sums.values.copy_(tensors["values"])
        sums.weights.copy_(tensors["weights"])
        sums.generator.set_state(tensors["generator"])
        sums.done, sums.used = done, used


def _difference(key: str, was: Any, now: Any) -> str:
    if key in ("model", "structures"):
        return f"the {key.removesuffix('s')}s differ"
    return f"{key} was {was} and is {now}"


def digest_of_model(graph: EquivariantGraph) -> str:
    """SHA-256 of the graph's code and tensors."""
    made = hashlib.sha256(graph.gm.code.encode())
    for name, tensor in sorted(graph.gm.state_dict().items()):
        array = tensor.detach().cpu().numpy()
        made.update(f"{name} {array.dtype} {array.shape}".encode())
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def digest_of_structures(frames: Sequence[Atoms]) -> str:
    """SHA-256 of positions, cells, elements and labels."""
    made = hashlib.sha256()
    for atoms in frames:
        labels = labels_of(atoms)
        values = (
            atoms.numbers,
            atoms.positions,
            np.array(atoms.cell),
            atoms.pbc,
            *(getattr(labels, name) for name in LABELS if labels.has(name)),
        )
        for value in values:
            array = np.asarray(value)
            made.update(f"{array.dtype} {array.shape}".encode())
            made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()
