"""The folder of a run: its state, its best weights and its log. Never unpickles code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from irprune.errors import UsageError
from irprune.files import atomic_path


@dataclass
class RunFolder:
    """``state.pt`` (the last step saved), ``best.pt`` (weights), ``log.jsonl`` and ``tensorboard/``."""

    path: Path
    tensorboard: bool = False
    _writer: Any = field(default=None, repr=False)

    @property
    def state_file(self) -> Path:
        return self.path / "state.pt"

    @property
    def best_file(self) -> Path:
        return self.path / "best.pt"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    def start(self, resume: bool) -> dict[str, Any] | None:
        """The saved state, or None for a run from the start.

        Raises:
            UsageError: the folder holds another run and ``resume`` is off, or the state cannot be read.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.tensorboard:
            self._writer = _summary_writer(self.path / "tensorboard")
        if not self.state_file.exists():
            self.log_file.write_text("")
            return None
        if not resume:
            raise UsageError(
                f"{self.path} holds a run already; give --resume to continue it, or another folder"
            )
        return read(self.state_file)

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes beside and renames, so that a run that is killed leaves a whole file."""
        write(self.state_file, state)

    def save_best(self, weights: Mapping[str, Any]) -> None:
        """The weights that were best on the held-out structures so far."""
        write(self.best_file, weights)

    def log(self, row: Mapping[str, Any]) -> None:
        """One line of JSON, and the same numbers for TensorBoard."""
        with self.log_file.open("a") as stream:
            stream.write(json.dumps(dict(row), allow_nan=False) + "\n")
        if self._writer is not None:
            kind = row["kind"]
            for name, value in row.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{kind}/{name}", value, row["step"])

    def rows(self, step: int) -> list[dict[str, Any]]:
        """What was logged before ``step``; lines after it are taken back, for they come again."""
        kept = []
        for line in self.log_file.read_text().splitlines() if self.log_file.exists() else ():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written
                break
            if row["step"] < step:
                kept.append(row)
        with atomic_path(self.log_file) as temporary:
            temporary.write_text("".join(json.dumps(r) + "\n" for r in kept))
        return kept

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Saves tensors and plain values, beside and renamed."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def read(path: Path) -> dict[str, Any]:
    """Tensors and plain values.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        found["identity"]
        return dict(found)
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise UsageError(
            f"cannot resume from {path} ({type(error).__name__}); delete it to start again"
        ) from error


def _summary_writer(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard logs need the package tensorboard: pip install irprune[train]"
        ) from error
    return SummaryWriter(str(path))
