"""Stage 1: configurations compiled for an architecture, without a GPU, and ranked.

The rank is an estimate, not a time: instructions per edge of all kernels together, each divided by how
well programs of its size can hide the latency of memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from irprune.kernels.triton.config import Config, shallow
from irprune.kernels.triton.source import Source, sources
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.compile import compile_source
from irprune.kernels.tuner.facts import KernelFacts, read_facts
from irprune.kernels.tuner.pool import CompilerDied, in_processes
from irprune.passmanager import Progress, no_progress
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.tuning import TuneError

ENOUGH = 0.25
"""Share of the warps of a multiprocessor from which on more of them are taken to hide no more."""
Compile = Callable[[Source, Architecture], Any]
_CODE = re.compile(r"error code (-?\d+)")


@dataclass(frozen=True)
class Candidate:
    """One configuration, as the compiler sees it."""

    config: Config
    kernels: tuple[KernelFacts, ...]
    rejected: str | None = None

    @property
    def cost(self) -> float:
        """Lower is better; only for comparing configurations of one spec."""
        return sum(k.instructions / max(min(k.occupancy / ENOUGH, 1.0), 1e-3) for k in self.kernels)

    def to_json(self) -> dict[str, Any]:
        return {
            "config": str(self.config),
            "cost": None if self.rejected else round(self.cost, 3),
            "rejected": self.rejected,
            "kernels": [k.to_json() for k in self.kernels],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Candidate:
        kernels = tuple(KernelFacts.from_json(k) for k in found["kernels"])
        rejected = found["rejected"]
        return cls(
            Config.parse(found["config"]), kernels, None if rejected is None else str(rejected)
        )


def inspect(
    spec: PathSpec | PolySpec,
    config: Config,
    dtype: torch.dtype,
    architecture: Architecture,
    degree: int,
    compiler: Compile = compile_source,
) -> Candidate:
    """Compiles all kernels of one configuration; one that spills, or that triton or its assembler does
    not take, is rejected. What else goes wrong, as with a full disk, is not its fault and is raised.

    Raises:
        CompilerDied: the assembler did not end by itself.
    """
    from triton.errors import TritonError

    found: list[KernelFacts] = []
    for source in sources(spec, config, dtype):
        try:
            made = compiler(source, architecture)
        except (RuntimeError, TritonError) as error:
            _raise_if_killed(error)
            return Candidate(config, tuple(found), f"{source.name}: {_short(error)}")
        facts = read_facts(source.name, made, architecture, config.warps, source.blocks, degree)
        found.append(facts)
        if facts.stack:
            return Candidate(
                config, tuple(found), f"{source.name}: {facts.stack} bytes per thread spill"
            )
        if not facts.occupancy:
            return Candidate(
                config,
                tuple(found),
                f"{source.name}: {facts.shared} bytes of shared memory and {facts.registers}"
                f" registers do not fit {architecture.name}",
            )
    return Candidate(config, tuple(found))


def _raise_if_killed(error: Exception) -> None:
    """An assembler that was killed, as where memory ends, says nothing of what it was given."""
    code = _CODE.search(str(error))
    if code and not 0 < int(code[1]) < 128 and int(code[1]) != 255:
        raise CompilerDied(f"an assembler was ended by the system: {_short(error)}") from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def survey(
    spec: PathSpec | PolySpec,
    dtype: torch.dtype,
    architecture: Architecture,
    degree: int,
    *,
    wanted: Sequence[Config] | None = None,
    known: Sequence[Candidate] = (),
    compiler: Compile = compile_source,
    jobs: int = 1,
    progress: Progress = no_progress,
    keep: Callable[[Sequence[Candidate]], None] = lambda _: None,
) -> tuple[Candidate, ...]:
    """Configurations of a spec, compiled and looked at.

    What a compiler died of among others is compiled once more, alone, and rejected if it dies again.

    Args:
        spec: the convolution or polynomial.
        dtype: of its operands.
        architecture: to compile for.
        degree: edges of a node.
        wanted: the configurations; by default all of one stage. The estimate does not see what loads
            in flight gain, and triton takes up to forty times as long to compile them.
        known: candidates of a run that was cut off; they are not compiled again.
        compiler: compiles one kernel.
        jobs: configurations that are compiled at once, each in a process of its own.
        progress: told of every configuration.
        keep: called with what there is after every configuration.

    Returns:
        One candidate for each, in the order of ``wanted``.

    Raises:
        CompilerDied: every one of them dies, so that the cause is another.
    """
    wanted = shallow(spec) if wanted is None else wanted
    found = {c.config: c for c in known if c.config in wanted}
    label = f"compile for {architecture.name}"

    def so_far() -> tuple[Candidate, ...]:
        return tuple(found[c] for c in wanted if c in found)

    new = [c for c in wanted if c not in found]
    given = [(str(c), (spec, c, dtype, architecture, degree, compiler)) for c in new]
    progress(label, len(found), len(wanted))
    for candidate in _compiled(given, jobs):
        found[candidate.config] = candidate
        keep(so_far())
        progress(label, len(found), len(wanted))
    return so_far()


def _compiled(given: Sequence[tuple[str, tuple[Any, ...]]], jobs: int) -> Iterator[Candidate]:
    """Candidates as they are made, those that a compiler died of last."""
    left = dict(given)
    try:
        for name, candidate in in_processes(inspect, given, jobs):
            del left[name]
            yield candidate
    except CompilerDied as error:
        cause, lived = error, len(left) < len(given)
    if not left:
        return
    dead = []
    for name, arguments in left.items():
        try:
            ((_, candidate),) = in_processes(inspect, [(name, arguments)], max(jobs, 2))
        except CompilerDied as error:
            dead.append(Candidate(arguments[1], (), f"its compiler dies: {_short(error)}"))
            continue
        lived = True
        yield candidate
    if not lived:
        raise cause
    yield from dead


def usable(spec: PathSpec | PolySpec, found: Sequence[Candidate], where: str) -> None:
    """Refuses a survey in which nothing can be used.

    Raises:
        TuneError: every configuration is rejected; gives the first reason.
    """
    if not any(c.rejected is None for c in found):
        raise TuneError(
            f"no configuration of {spec.key} can be used on {where}; the first,"
            f" {found[0].config}: {found[0].rejected}"
        )


def ranked(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that can be used, the most promising first; equal ones in the order of ``configs``."""
    return tuple(sorted((c for c in found if c.rejected is None), key=lambda c: c.cost))
