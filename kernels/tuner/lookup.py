"""What the operators ask where they run: the tuned configuration of a spec, or the next best thing."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from irprune.backends import recall, remember
from irprune.cost import DEFAULT_EDGES_PER_ATOM
from irprune.errors import UsageError
from irprune.kernels.triton.config import Config, config_for, configs, default, pinned
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture, architecture_of
from irprune.kernels.tuner.entry import degree_of, key_of
from irprune.kernels.tuner.miss import NoSurvey, survey_apart
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec


def chosen(spec: PathSpec | PolySpec, x: Tensor, edges: int) -> Config:
    """The configuration for tensors like x [N, …] with so many edges.

    One that was pinned in this process comes first. On a GPU the cache is asked next, and whatever is
    not a timed configuration is said on stderr. Elsewhere (Triton's interpreter) it is the default.
    """
    if not on_gpu(x) or pinned(spec, x.dtype):
        return config_for(spec, x.dtype)
    n, degree = x.shape[0], None
    if not torch.compiler.is_compiling() and isinstance(n, int) and isinstance(edges, int):
        degree = degree_of(spec, edges / max(n, 1))
    return Config.parse(on_device(remember(spec), x.dtype, x.device, degree))


def on_gpu(x: Tensor) -> bool:
    """Whether configurations are looked up: on CUDA and ROCm, which torch calls ``cuda`` as well."""
    return x.device.type == "cuda"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def on_device(key: str, dtype: torch.dtype, device: torch.device, degree: int | None) -> str:
    """The text of the configuration for a spec, by its key (``recall`` of backends), on a GPU here.

    torch.compile takes what it gives as a constant: it asks files and compilers. ``degree`` is None
    where a graph is captured for all sizes: what is usual is taken then.
    """
    spec = recall(key)
    if degree is None:
        degree = degree_of(spec, DEFAULT_EDGES_PER_ATOM)
    architecture = known_architecture(device)
    if architecture is None:
        return str(default(spec))
    return str(lookup(spec, dtype, architecture, degree, _name(device)))


@functools.cache
def known_architecture(device: torch.device) -> Architecture | None:
    """The architecture of a GPU of this machine; None, which is said, where it is not in the table."""
    try:
        return architecture_of(device)
    except UsageError as error:
        cache.say(
            f"nothing can be tuned for {device}, the default configurations are used: {error}"
        )
        return None


@functools.cache
def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def lookup(
    spec: PathSpec | PolySpec,
    dtype: torch.dtype,
    architecture: Architecture,
    degree: float,
    device: str | None = None,
) -> Config:
    """The timed winner of the cache, else that of compilation, else the default; says which, and where
    it was timed on another GPU of the same architecture than ``device``. What is known for another
    number of edges per node is used; what is not known at all is compiled first (``survey_apart``).
    """
    return _lookup(spec, dtype, architecture, degree_of(spec, degree), device)


@functools.lru_cache(maxsize=4096)
def _lookup(
    spec: PathSpec | PolySpec,
    dtype: torch.dtype,
    architecture: Architecture,
    degree: int,
    device: str | None,
) -> Config:
    key = key_of(spec, dtype, architecture, degree)
    entry = cache.load_near(key)
    what = f"{spec.key} on {architecture.name} in {key.dtype}"
    if isinstance(spec, PathSpec):
        what += f" with about {degree} edges per node"
    if entry is None:
        try:
            entry = survey_apart(spec, dtype, architecture)
        except NoSurvey as error:
            cache.say(f"the default configuration is used for {what}: {error} (irprune tune)")
            return default(spec)
    winner = entry.winner
    if winner not in configs(spec):
        cache.say(f"the tuned configuration {winner} of {what} is not legal: the default is used")
        return default(spec)
    if entry.stage == 1:
        cache.say(
            f"no configuration is timed for {what}: the most promising one by compilation is used"
            " (irprune tune on that GPU times it)"
        )
    elif entry.key != key:
        cache.say(
            f"no configuration is timed for {what}: that for about {entry.key.degree} is used (irprune"
            " tune)"
        )
    elif device is not None and entry.device != device:
        cache.say(f"the configuration of {what} was timed on {entry.device}, and not on {device}")
    return winner
