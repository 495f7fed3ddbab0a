"""What the operators ask where they run: the tuned configuration of a spec, or the next best thing."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from irprune.cost import DEFAULT_EDGES_PER_ATOM
from irprune.kernels.triton.config import Config, config_for, configs, default, pinned
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture, architecture_of
from irprune.kernels.tuner.entry import key_of
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec


def chosen(spec: PathSpec | PolySpec, x: Tensor, edges: int) -> Config:
    """The configuration for tensors like x [N, …] with so many edges.

    One that was pinned in this process comes first. On a GPU the cache is asked next, and whatever is
    not a timed configuration is said on stderr. Elsewhere (Triton's interpreter) it is the default.
    """
    if x.device.type != "cuda" or pinned(spec, x.dtype):
        return config_for(spec, x.dtype)
    n = x.shape[0]
    # without numbers, where a graph is captured for all sizes, what is usual
    known = isinstance(n, int) and isinstance(edges, int)
    degree = edges / max(n, 1) if known else DEFAULT_EDGES_PER_ATOM
    return lookup(spec, x.dtype, architecture_of(x.device), degree)


def lookup(
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture, degree: float
) -> Config:
    """The timed winner of the cache, else that of compilation, else the default; says which."""
    return _lookup(spec, dtype, architecture, key_of(spec, dtype, architecture, degree).degree)


@functools.lru_cache(maxsize=4096)
def _lookup(
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture, degree: int
) -> Config:
    key = key_of(spec, dtype, architecture, degree)
    entry = cache.load(key)
    winner = None if entry is None else entry.winner
    what = f"{spec.key} on {architecture.name} in {key.dtype} with about {degree} edges per node"
    if winner is not None and winner not in configs(spec):
        cache.say(f"the tuned configuration {winner} of {what} is not legal and not used")
        winner = None
    if winner is None:
        cache.say(f"no configuration is tuned for {what}: the default is used (irprune tune)")
        return default(spec)
    if entry is not None and entry.stage == 1:
        cache.say(
            f"no configuration is timed for {what}: the most promising one by compilation is used"
            " (irprune tune on that GPU times it)"
        )
    return winner
