"""The tuner of the Triton kernels: both stages, resumed from the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from irprune.errors import UsageError
from irprune.kernels.triton.config import Config, deeper, pin, shallow, unpin
from irprune.kernels.triton.installed import interpreted, missing_triton
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture, architecture_named, architecture_of
from irprune.kernels.tuner.compile import compile_source
from irprune.kernels.tuner.entry import Entry, Key, Timed, key_of
from irprune.kernels.tuner.pool import CompilerDied
from irprune.kernels.tuner.stage1 import Candidate, Compile, ranked, survey, usable
from irprune.kernels.tuner.stage2 import (
    CHECKED,
    CudaTimer,
    Timer,
    check,
    problem,
    race,
    reference,
    triton_call,
)
from irprune.passmanager import Progress
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.tuning import TuneRequest


class TritonTuner:
    """Compiles configurations, times the best few where there is a GPU, and keeps both."""

    name: ClassVar[str] = "triton"

    def __init__(
        self,
        compiler: Compile = compile_source,
        timer: Callable[[torch.device], Timer] = CudaTimer,
    ) -> None:
        self.compiler = compiler
        self.timer = timer

    def declines(self, request: TuneRequest) -> str | None:
        if not isinstance(request.spec, PathSpec | PolySpec):
            return f"there are no Triton kernels for a {type(request.spec).__name__}"
        if interpreted():
            return "in Triton's interpreter (TRITON_INTERPRET=1) nothing is compiled"
        return missing_triton()

    def tune(self, request: TuneRequest, progress: Progress) -> Mapping[str, Any]:
        """Both stages, or what of them is not in the cache; see ``Entry.to_json`` for the answer.

        Raises:
            UsageError: no architecture is named and no GPU is here, or another one.
            TuneError: no configuration can be used.
            CheckFailed: a configuration computes something else than its spec.
        """
        device = torch.device(request.device)
        architecture = _architecture(request.architecture, device)
        dtype = getattr(torch, request.dtype)
        key = key_of(request.spec, dtype, architecture, request.degree)
        known = None if request.fresh else _known(key, request.spec, device)
        entry = known if known is not None and known.complete else None
        if entry is None:
            entry = self._first(request, dtype, architecture, key, known, progress)
        if device.type == "cuda" and not (entry.timed and entry.device == device_name(device)):
            entry = self._second(request, dtype, device, architecture, entry, progress)
        return {**entry.to_json(), "cached": entry is known}

    def _first(
        self,
        request: TuneRequest,
        dtype: torch.dtype,
        architecture: Architecture,
        key: Key,
        known: Entry | None,
        progress: Progress,
    ) -> Entry:
        def keep(found: Sequence[Candidate]) -> None:
            cache.save(Entry(key, tuple(found), complete=False))

        found = survey(
            request.spec, dtype, architecture, key.degree,
            known=() if known is None or not ranked(known.candidates) else known.candidates,
            compiler=self.compiler, jobs=request.jobs, progress=progress, keep=keep,
        )  # fmt: skip
        usable(request.spec, found, architecture.name)
        entry = Entry(key, found, complete=True)
        cache.save(entry)
        return entry

    def _second(
        self,
        request: TuneRequest,
        dtype: torch.dtype,
        device: torch.device,
        architecture: Architecture,
        entry: Entry,
        progress: Progress,
    ) -> Entry:
        """The best few in a race, then its winner against the same with more loads in flight."""
        small = problem(request.spec, dtype, device, entry.key.degree, CHECKED)
        given = problem(request.spec, dtype, device, entry.key.degree)
        expected = reference(small)

        def raced(configs: Sequence[Config]) -> tuple[Timed, ...]:
            for i, config in enumerate(configs):
                progress(f"check {config}", i, len(configs))
                check(small, triton_call(small, config)(), expected, config)
            calls = [(c, triton_call(given, c)) for c in configs]
            return race(calls, self.timer(device), request.rounds, progress=progress)

        try:
            surveyed = shallow(request.spec)  # an entry of another GPU has its deeper ones too
            order = [c.config for c in ranked(entry.candidates) if c.config in surveyed]
            first = raced(order[: request.best])
            best = first[0].config
            more = self._deeper(request, dtype, architecture, entry, best, progress)
            fitting = [c.config for c in more if c.rejected is None]
            last = raced([best, *fitting]) if fitting else first[:1]
        finally:
            unpin(request.spec, dtype)
        pin(request.spec, dtype, last[0].config)
        known = {c.config for c in entry.candidates}
        made = dataclasses.replace(
            entry,
            candidates=(*entry.candidates, *(c for c in more if c.config not in known)),
            timed=(*last, *first[1:]),
            device=device_name(device),
        )
        cache.save(made)
        return made

    def _deeper(
        self,
        request: TuneRequest,
        dtype: torch.dtype,
        architecture: Architecture,
        entry: Entry,
        best: Config,
        progress: Progress,
    ) -> tuple[Candidate, ...]:
        """A layout with more loads in flight, compiled; none, which is said, where a compiler dies."""
        try:
            return survey(
                request.spec, dtype, architecture, entry.key.degree,
                wanted=deeper(request.spec, best), known=entry.candidates,
                compiler=self.compiler, jobs=request.jobs, progress=progress,
            )  # fmt: skip
        except CompilerDied as error:
            cache.say(
                f"{best} of {request.spec.key} is not tried with more loads in flight: {error}"
            )
            return ()

    def write_table(self, path: str, found: list[Mapping[str, Any]], winners: bool = False) -> None:
        """Adds what ``tune`` gave to a table, or of it only the winners.

        Raises:
            UsageError: the place cannot be written, or holds something else.
        """
        entries = [Entry.from_json(e) for e in found]
        cache.write_table(Path(path), [e.alone() for e in entries] if winners else entries)


def _known(key: Key, spec: PathSpec | PolySpec, device: torch.device) -> Entry | None:
    """What need not be done again: all compiled, or timed on such a GPU. A winner without the other
    candidates, as tables hand it on, is enough to run, but leaves nothing to choose from.
    """
    found = cache.load(key)
    if found is not None:
        same = device.type != "cuda" or found.device == device_name(device)
        if (found.timed and same) or found.surveyed(shallow(spec)):
            return found
    return cache.read(key)


def device_name(device: torch.device) -> str:
    """As the driver calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _architecture(name: str | None, device: torch.device) -> Architecture:
    if device.type != "cuda":
        if name is None:
            raise UsageError("no GPU is used here: name what to compile for, such as --arch sm_90")
        return architecture_named(name)
    here = architecture_of(device)
    if name is not None and architecture_named(name) != here:
        raise UsageError(
            f"{device} is {here.name}, but --arch names {name}; leave --device away to compile for it"
        )
    return here
