"""Kernel backends: what evaluates the specs of a graph, how one is chosen, and who declined.

Backends register themselves through the entry-point group ``irprune.kernels``; the reference, plain
torch, is always there. A choice is never silent: ``choose`` gives it with every decline before it, the
command line prints that, and a backend that should have served and cannot says so once on stderr.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar

import torch
from torch import Tensor

from irprune.edges import unpack
from irprune.errors import UsageError
from irprune.specs.linear import LinearSpec
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.specs.table import TableSpec

GROUP = "irprune.kernels"
Spec = PathSpec | PolySpec | TableSpec | LinearSpec
Kernel = Callable[..., Tensor]


@dataclass(frozen=True)
class Decline:
    """Why a backend does not serve a spec."""

    backend: str
    reason: str
    loud: bool = False
    """Whether users should hear of it: the backend is meant for this device and cannot run."""
    meant: bool = True
    """Whether the backend is meant for such a spec. False where it has no kernels of that kind, or
    where plain torch is as fast: requiring the backend then does not make the decline an error."""

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


class Backend:
    """Evaluates specs on some devices. Subclasses are found by entry points."""

    name: ClassVar[str]
    rank: ClassVar[int] = 0
    """The backend of the highest rank that does not decline is taken."""

    def rank_on(self, device: torch.device) -> int:
        """Its rank on a device, where that depends on it. Below that of the reference, it is taken
        only where it is asked for.
        """
        return self.rank

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        """None if it can, else why not."""
        raise NotImplementedError

    def kernel(self, spec: Spec) -> Kernel:
        """A function of tensors, differentiable twice.

        Of a PathSpec: (x [N, in1], y [E, in2], w [rows, weights], edges packed) → [N, out], with the
        edges of ``irprune.edges.pack``. Of a PolySpec: (x [N, inputs], w [rows, paths, K], row of w of
        each node or None for its own) → [N, outputs].
        Of a TableSpec: (r [rows], table, number of the table of each row or None) → [rows, width].
        Of a LinearSpec: (x [N, in], for each group its matrix [copies in, copies out]) → [N, out].
        """
        raise NotImplementedError


class Reference(Backend):
    """The specs' own evaluation, in torch, anywhere."""

    name: ClassVar[str] = "reference"
    rank: ClassVar[int] = -1

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        return None

    def kernel(self, spec: Spec) -> Kernel:
        return functools.partial(convolve, spec) if isinstance(spec, PathSpec) else spec.evaluate


def convolve(spec: PathSpec, x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
    """Gather, product and scatter of a PathSpec, one after the other."""
    lists = unpack(edges, x.shape[0])
    messages = spec.evaluate(x[lists.sender], y, w[lists.row])
    return x.new_zeros(x.shape[0], spec.dims[2]).index_add(0, lists.receiver, messages)


@functools.lru_cache(maxsize=1)
def backends() -> dict[str, Backend]:
    """Every backend by name, the highest rank first."""
    found: list[Backend] = [Reference()]
    found += [entry.load()() for entry in entry_points(group=GROUP)]
    return {b.name: b for b in sorted(found, key=lambda b: -b.rank)}


def order(device: torch.device) -> list[Backend]:
    """Every backend, the first to be asked on a device first."""
    return sorted(backends().values(), key=lambda b: -b.rank_on(device))


def backend_named(name: str) -> Backend:
    """The backend of a name.

    Raises:
        UsageError: there is none.
    """
    known = backends()
    if name not in known:
        raise UsageError(f"no backend is called {name!r}; known are {', '.join(known)}")
    return known[name]


@dataclass(frozen=True)
class Choice:
    """Which backend serves a spec, and who declined before it."""

    backend: str
    declined: tuple[Decline, ...]

    def __str__(self) -> str:
        why = f" ({'; '.join(map(str, self.declined))})" if self.declined else ""
        return self.backend + why


def choose(spec: Spec, device: torch.device, dtype: torch.dtype, wanted: str = "auto") -> Choice:
    """The backend that will serve a spec.

    Args:
        spec: what is to be evaluated.
        device: of the tensors.
        dtype: of the tensors.
        wanted: ``auto``, or the name of the one backend that may serve; ``NAME@DEVICE`` says so for one
            kind of device and leaves the others free.

    Raises:
        UsageError: ``wanted`` is not known, or declines.
    """
    wanted, _, only = wanted.partition("@")
    if wanted != "auto" and only in ("", device.type):
        refusal = backend_named(wanted).supports(spec, device, dtype)
        if refusal is not None:
            raise UsageError(f"the backend that was asked for declines: {refusal}")
        return Choice(wanted, ())
    declined: list[Decline] = []
    for backend in order(device):
        refusal = backend.supports(spec, device, dtype)
        if refusal is None:
            return Choice(backend.name, tuple(declined))
        declined.append(refusal)
    raise AssertionError("the reference backend never declines")


def refusals(spec: Spec, device: torch.device, dtype: torch.dtype) -> dict[str, Decline | None]:
    """What every backend says to a spec, the first to be asked first; None where it serves."""
    return {b.name: b.supports(spec, device, dtype) for b in order(device)}


_told: set[str] = set()


@functools.lru_cache(maxsize=4096)
def _kernel(spec: Spec, device: torch.device, dtype: torch.dtype, wanted: str) -> Kernel:
    choice = choose(spec, device, dtype, wanted)
    for refusal in choice.declined:
        if refusal.loud and str(refusal) not in _told:
            _told.add(str(refusal))
            sys.stderr.write(f"irprune: slower {choice.backend} kernels are used ({refusal})\n")
    return backends()[choice.backend].kernel(spec)


def kernel_for(spec: Spec, like: Tensor, wanted: str = "auto") -> Kernel:
    """The function that evaluates a spec on tensors like this one."""
    return _kernel(spec, like.device, like.dtype, wanted)


_SPECS: dict[str, Any] = {}


def remember(spec: Spec) -> str:
    """Makes a spec known under its key, by which custom operators name it."""
    _SPECS[spec.key] = spec
    return spec.key


def recall(key: str) -> Any:
    """The spec that was made known under a key."""
    return _SPECS[key]
