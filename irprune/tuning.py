"""Tuners: what finds the fastest layout of a kernel on a GPU, and how the command line finds them.

They register themselves under the entry-point group ``irprune.tuners``; the core knows none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from irprune.errors import IrpruneError, UsageError
from irprune.passmanager import Progress

GROUP = "irprune.tuners"


class TuneError(IrpruneError):
    """No configuration can be used."""


@dataclass(frozen=True)
class TuneRequest:
    """What to tune, for what."""

    spec: Any
    """A PathSpec or PolySpec."""
    dtype: str
    architecture: str | None
    """``sm_90``; None for that of the GPU that is here."""
    degree: float
    """Edges per node."""
    device: str = "cpu"
    """Where candidates are timed; on the CPU they are only compiled."""
    best: int = 6
    """Candidates to time."""
    rounds: int = 9
    fresh: bool = False
    """Whether to leave aside what is known."""
    jobs: int = 1
    """Configurations to compile at once, each in a process of its own."""


class Tuner(Protocol):
    """Finds configurations of one backend's kernels and keeps them."""

    name: str

    def declines(self, request: TuneRequest) -> str | None:
        """Why there is nothing to tune in a spec; None if there is."""

    def tune(self, request: TuneRequest, progress: Progress) -> Mapping[str, Any]:
        """Finds a configuration; the answer is JSON-able and has at least ``winner`` and ``stage``.

        Raises:
            TuneError: none can be used.
        """

    def write_table(self, path: str, found: list[Mapping[str, Any]], winners: bool = False) -> None:
        """Writes what ``tune`` gave, or of it the winners only, as a table that can be handed on."""


@functools.lru_cache(maxsize=1)
def tuners() -> dict[str, Tuner]:
    """Every tuner by name."""
    return {e.name: e.load()() for e in entry_points(group=GROUP)}


def tuner_named(name: str) -> Tuner:
    """The tuner of a name.

    Raises:
        UsageError: there is none.
    """
    found = tuners()
    if name not in found:
        raise UsageError(f"no tuner is called {name!r}; known are {', '.join(found) or 'none'}")
    return found[name]
