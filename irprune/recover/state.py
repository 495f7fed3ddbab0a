"""Saving the state of a training run, and continuing from it. Never unpickles code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irprune.errors import UsageError
from irprune.recover.average import Average


def save_state(
    path: Path,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    average: Average,
    settings: Mapping[str, Any],
    rows: Sequence[Any],
) -> None:
    """Writes beside ``path`` and renames, so that a run that is killed leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(
        {
            "parameters": {k: v.detach().cpu() for k, v in parameters.items()},
            "optimizer": optimizer.state_dict(),
            "average": average.values,
            "updates": average.updates,
            "settings": dict(settings),
            "rows": [asdict(r) for r in rows],
        },
        part,
    )
    os.replace(part, path)


def load_state(
    path: Path,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    average: Average,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Puts the saved state into the given objects and returns the rows of the history.

    Raises:
        UsageError: the file cannot be read, or is of a run with other settings or another student.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, rows = state["settings"], list(state["rows"])
        shapes = {k: tuple(v.shape) for k, v in state["parameters"].items()}
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise UsageError(
            f"cannot resume from {path} ({type(error).__name__}); delete it to start again"
        ) from error
    changed = [k for k in settings if saved.get(k) != settings[k]]
    if changed:
        text = ", ".join(f"{k} was {saved.get(k)} and is {settings[k]}" for k in changed)
        raise UsageError(f"cannot resume from {path} with other settings: {text}")
    if shapes != {k: tuple(v.shape) for k, v in parameters.items()}:
        raise UsageError(f"cannot resume from {path}: it is of a student with other parameters")
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(state["parameters"][name])
            average.values[name].copy_(state["average"][name])
    average.updates = int(state["updates"])
    optimizer.load_state_dict(state["optimizer"])
    return rows
