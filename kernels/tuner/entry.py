"""What the cache goes by, and what it holds: one entry per spec, machine and number of edges."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import statistics
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from irprune.kernels.triton.config import REVISION, Config, deterministic, kernel_key
from irprune.kernels.triton.installed import triton_version
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.stage1 import Candidate, ranked
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec

SCHEMA = 1
LAYOUT = "ir_mul"


@dataclass(frozen=True)
class Key:
    """Everything that a time depends on; where one differs, nothing is taken over."""

    spec: str
    """``kernel_key``."""
    dtype: str
    layout: str
    revision: int
    """Of the kernels (``irprune.kernels.triton.config.REVISION``)."""
    architecture: str
    triton: str
    ptxas: str
    degree: int
    """Edges of a node, the nearest power of two; 1 for a polynomial."""

    @property
    def name(self) -> str:
        """A hash of all of it: the name of the file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Key:
        if set(found) != {f.name for f in fields(cls)}:
            raise ValueError(f"a key has not the fields {sorted(found)}")
        return cls(**found)


def key_of(
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture, degree: float
) -> Key:
    """The key of a spec with what is installed here."""
    return Key(
        kernel_key(spec),
        str(dtype).removeprefix("torch."),
        LAYOUT,
        REVISION,
        architecture.name,
        str(triton_version()),
        assembler(architecture),
        degree_of(spec, degree),
    )


def degree_of(spec: PathSpec | PolySpec, degree: float) -> int:
    """What the key of a spec says of a number of edges per node: a polynomial has no edges."""
    return 1 if isinstance(spec, PolySpec) else bucket(degree)


def bucket(degree: float) -> int:
    """The power of two that is nearest to a number of edges per node, in ratio; at least 1."""
    return 1 if degree <= 1 else 2 ** round(math.log2(degree))


@functools.lru_cache(maxsize=32)
def assembler(architecture: Architecture) -> str:
    """Version of the ptxas that triton uses for an architecture; triton's own for AMD."""
    if architecture.is_amd:
        return "none"
    from triton.backends.nvidia.compiler import get_ptxas_version

    said = get_ptxas_version(int(architecture.name.removeprefix("sm_")))
    found = re.search(r"\bV(\d[\d.]*)", said)
    return found[1] if found else " ".join(said.split())


@dataclass(frozen=True)
class Timed:
    """A configuration that ran: seconds of each round, values and all gradients."""

    config: Config
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        return {"config": str(self.config), "median": self.median, "seconds": list(self.seconds)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Timed:
        seconds = tuple(float(s) for s in found["seconds"])
        if not seconds or not all(math.isfinite(s) and s > 0 for s in seconds):
            raise ValueError(f"times must be positive numbers, got {found['seconds']}")
        return cls(Config.parse(found["config"]), seconds)


@dataclass(frozen=True)
class Entry:
    """What is known for a key."""

    key: Key
    candidates: tuple[Candidate, ...]
    complete: bool
    """Whether all of one stage have been compiled; else a run was cut off."""
    timed: tuple[Timed, ...] = ()
    """The fastest first; then those of its race, and of the race before."""
    device: str | None = None
    """The GPU that it was timed on."""

    @property
    def stage(self) -> int:
        """2 where configurations were timed, 1 where all were compiled, else 0."""
        return 2 if self.timed else int(self.complete)

    @property
    def winner(self) -> Config | None:
        """The fastest, or the most promising where none was timed; None before that is known.

        Atomic additions, whose order is not fixed, are for what has been seen to gain by them: where
        nothing was timed they are taken only if nothing else can be used.
        """
        if self.timed:
            return self.timed[0].config
        order = [c.config for c in ranked(self.candidates)] if self.complete else []
        return next(filter(deterministic, order), order[0] if order else None)

    def surveyed(self, wanted: Collection[Config]) -> bool:
        """Whether stage 1 has seen all of these configurations; a table may hold a winner alone."""
        return self.complete and {c.config for c in self.candidates} >= set(wanted)

    def alone(self) -> Entry:
        """The entry with nothing but its winner: what a table needs that is handed on."""
        return replace(
            self,
            candidates=tuple(c for c in self.candidates if c.config == self.winner),
            timed=tuple(t for t in self.timed if t.config == self.winner),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "key": self.key.to_json(),
            "stage": self.stage,
            "winner": None if self.winner is None else str(self.winner),
            "device": self.device,
            "timed": [t.to_json() for t in self.timed],
            "complete": self.complete,
            "candidates": [c.to_json() for c in self.candidates],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Entry:
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']} is not {SCHEMA}")
        return cls(
            Key.from_json(found["key"]),
            tuple(Candidate.from_json(c) for c in found["candidates"]),
            bool(found["complete"]),
            tuple(Timed.from_json(t) for t in found["timed"]),
            None if found["device"] is None else str(found["device"]),
        )
