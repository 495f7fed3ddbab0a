"""Runs pipelines: requirements, timing, what each pass changed, verification hooks.

Also the one place to import ``Pass``, ``Pipeline`` and ``register_pass`` from. Needs no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from irprune.debugging.observers import Observer
from irprune.debugging.peak import PeakMemory
from irprune.errors import CheckFailed
from irprune.passbase import Pass, all_passes, find_pass, pass_names, providers, register_pass
from irprune.pipeline import Pipeline

__all__ = [
    "CheckLike",
    "Pass",
    "PassContext",
    "PassReport",
    "Pipeline",
    "PipelineReport",
    "Progress",
    "StatsLike",
    "all_passes",
    "find_pass",
    "pass_names",
    "providers",
    "recorded",
    "register_pass",
    "run_pipeline",
]


class CheckLike(Protocol):
    """One verification step: what was measured, and how much is allowed."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def ok(self) -> bool: ...


class StatsLike(Protocol):
    """Size and cost of a graph."""

    @property
    def params(self) -> int: ...
    @property
    def flops_per_atom(self) -> float | None: ...
    @property
    def blocks(self) -> int: ...
    @property
    def nodes(self) -> int: ...


class GraphLike(Protocol):
    """What the pass manager needs of a graph; passes see the real class."""

    @property
    def facts(self) -> frozenset[str]: ...
    def replace(self, **changes: Any) -> Any: ...
    def stats(self) -> StatsLike: ...


G = TypeVar("G", bound=GraphLike)


class Progress(Protocol):
    """Called with a label, the steps done and the steps in all (None if not known)."""

    def __call__(self, label: str, done: int, total: int | None = None) -> None: ...


def no_progress(label: str, done: int, total: int | None = None) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class PassContext:
    """What a pass may use beside the graph and its own options."""

    frames: Sequence[Any] | None = None
    """Structures (``ase.Atoms``) to score or recover on; None where the pass may make its own."""
    seed: int = 0
    device: str = "cpu"
    dtype: str | None = None
    target: str = "auto"
    """auto, native:mace, native:sevennet, surgery or graph."""
    output: Path | None = None
    progress: Progress = no_progress
    verify: Callable[[Any], Sequence[CheckLike]] | None = None
    teacher: Any = None
    """The graph before any pass: what masks refer to and what distillation learns from."""
    stopwatch: Callable[[Any, Any, int], Sequence[tuple[float, float]]] | None = None
    """(original, candidate, rounds) → seconds of both in each round, for budgets on latency; None
    measures on this machine."""
    results: dict[str, Any] = field(default_factory=dict)
    """What passes found beside the graph, by pass name (the exported file, a distillation curve);
    passes write here, and the pipeline report hands it on."""
    only: frozenset[str] | None = None
    """The only nodes that a pass rewrites which works node by node (``Pass.by_node``). None: all."""
    rewritten: list[str] = field(default_factory=list)
    """Names of the nodes that passes of that kind have rewritten."""


@dataclass(frozen=True)
class PassReport:
    """What one pass did."""

    name: str
    text: str
    trait: str
    seconds: float
    before: StatsLike
    after: StatsLike
    checks: tuple[CheckLike, ...] = ()
    peak_memory: int | None = None
    """Bytes: the most that the process held in memory meanwhile; None where the system cannot say."""
    memory_added: int | None = None
    """By how much that is more than before the pass."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "text": self.text,
            "trait": self.trait,
            "seconds": round(self.seconds, 4),
            "peak_memory": self.peak_memory,
            "memory_added": self.memory_added,
            **_change("params", self.before.params, self.after.params),
            **_change("flops_per_atom", self.before.flops_per_atom, self.after.flops_per_atom),
            **_change("blocks", self.before.blocks, self.after.blocks),
            **_change("nodes", self.before.nodes, self.after.nodes),
            "checks": [check_json(c) for c in self.checks],
        }


@dataclass(frozen=True)
class PipelineReport:
    """What a pipeline did, pass by pass."""

    pipeline: str
    passes: tuple[PassReport, ...]
    before: StatsLike
    after: StatsLike
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(p.seconds for p in self.passes)

    def stages(self) -> list[dict[str, Any]]:
        """What each selection led to, up to the next one: one object per ``select``."""
        out: list[dict[str, Any]] = []
        for p in self.passes:
            if p.name == "select":
                out.append({"select": p.text, "recovered": False})
            elif not out:
                continue
            out[-1] |= {
                "params": p.after.params,
                "flops_per_atom": p.after.flops_per_atom,
                "blocks": p.after.blocks,
                "recovered": out[-1]["recovered"] or p.name == "recover",
            }
        return out

    def to_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "passes": [p.to_json() for p in self.passes],
            **_change("params", self.before.params, self.after.params),
            **_change("flops_per_atom", self.before.flops_per_atom, self.after.flops_per_atom),
        }


def _change(key: str, before: float | None, after: float | None) -> dict[str, Any]:
    return {key: after, f"{key}_before": before}


def check_json(check: CheckLike) -> dict[str, Any]:
    """A check as the four keys of the command line's JSON."""
    return {
        "name": check.name,
        "value": None if check.value is None else float(check.value),
        "tolerance": None if check.tolerance is None else float(check.tolerance),
        "ok": bool(check.ok),
    }


def run_pipeline(
    pipeline: Pipeline,
    graph: G,
    context: PassContext | None = None,
    *,
    observers: Sequence[Observer] = (),
    verify_each: bool = False,
    on_pass: Callable[[PassReport], None] | None = None,
) -> tuple[G, PipelineReport]:
    """Runs the passes in order and reports what each one changed.

    Args:
        pipeline: the passes; their requirements are checked before the first one runs.
        graph: never changed.
        context: structures, seed, device, target and so on.
        observers: called before and after every pass, such as ``Printer`` and ``Dumper``.
        verify_each: run ``context.verify`` after every pass.
        on_pass: called after every pass.

    Raises:
        PipelineError: a pass requires a fact that no pass before it provides.
        CheckFailed: a check after a pass failed; names the pass.
    """
    context = context or PassContext()
    pipeline.check(graph.facts)
    for observer in observers:
        observer.start(graph, pipeline.passes)
    first = before = graph.stats()
    reports: list[PassReport] = []
    for number, p in enumerate(pipeline.passes):
        context.progress(p.name, number, len(pipeline))
        for observer in observers:
            observer.before(p, graph)
        given, start = graph, time.perf_counter()
        with PeakMemory() as memory:
            result = p.run(graph, context)
        seconds = time.perf_counter() - start
        graph = recorded(result, graph, p)
        for observer in observers:
            observer.after(p, given, graph)
        checks: tuple[CheckLike, ...] = ()
        if verify_each and context.verify is not None:
            checks = tuple(context.verify(graph))
            _require(checks, p)
        after = graph.stats()
        used = (memory.peak, memory.added)
        reports.append(PassReport(p.name, p.text(), p.trait, seconds, before, after, checks, *used))
        if on_pass is not None:
            on_pass(reports[-1])
        before = after
    context.progress("done", len(pipeline), len(pipeline))
    return graph, PipelineReport(pipeline.text(), tuple(reports), first, before, context.results)


def recorded(result: G, before: G, p: Pass) -> G:
    """The graph with the facts that the pass leaves, what it claims, and the pass in its history."""
    # a pass that found nothing to do has not made what it makes
    provided = frozenset() if result is before else frozenset(p.provides)
    facts = frozenset(result.facts - set(p.invalidates)) | provided
    changes: dict[str, Any] = {} if facts == result.facts else {"facts": facts}
    history = getattr(result, "history", None)
    if history is not None:
        changes["history"] = (*history, p.text())
        if p.trait.startswith("approximate"):
            changes["claim"] = None
        elif result.claim is None and result.gm is not before.gm:  # type: ignore[attr-defined]
            changes["claim"] = before
    made: G = result.replace(**changes) if changes else result
    return made


def _require(checks: Sequence[CheckLike], p: Pass) -> None:
    failed = [c for c in checks if not c.ok]
    if failed:
        worst = "; ".join(f"{c.name}: {c.value:.3g} > {c.tolerance:.3g}" for c in failed)
        raise CheckFailed(
            f"after pass {p.text()} ({p.trait}), {len(failed)} checks failed: {worst}"
        )
