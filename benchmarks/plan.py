"""What has to be run, how long it will take, and how many rounds fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.files import read_json
from benchmarks.prepare import ORIGINAL, files_of, variant_names
from benchmarks.problems import MODELS, Model

MIN_REPEATS, MAX_REPEATS = 5, 15
WARMUP_CALLS = 3
"""Per variant on the crystal itself, as a rule."""
START_SECONDS = 3.0
"""A process that imports torch and a family's library."""
EDGES_LIKE = {"MgO": 56.0, "Si": 28.0, "GeTe": 29.0}
"""Neighbours per atom, roughly: only to estimate."""


@dataclass(frozen=True)
class Plan:
    """The choices of one run."""

    models: tuple[str, ...]
    atoms: tuple[int, ...]
    threads: tuple[int, ...]
    keeps: tuple[float, ...]
    folder: Path

    @property
    def pruned(self) -> Path:
        """Where the model files are."""
        return self.folder / "pruned"

    def part(self, model: str, atoms: int, threads: int) -> Path:
        """Where one measurement is kept."""
        return self.folder / "parts" / f"{model}-{atoms}atoms-{threads}threads.json"

    def facts(self, model: Model) -> dict[str, dict[str, Any]]:
        """What ``prepare`` wrote about each variant."""
        names = variant_names(self.keeps)
        return {v: read_json(files_of(model, v, self.pruned)[1]) for v in names}

    def variants(self, model: Model) -> dict[str, str]:
        """Variant → what to load; the original first."""
        files = {v: str(files_of(model, v, self.pruned)[0]) for v in variant_names(self.keeps)}
        return {**files, ORIGINAL: model.location()}

    def key(self, model: Model) -> dict[str, str]:
        """What a measurement depends on besides its name."""
        facts = self.facts(model)
        files = {v: f["sha256"] or f["checkpoint"] for v, f in facts.items()}
        return files | {"torch": version("torch")}

    def job(self, model: Model, threads: int) -> dict[str, Any]:
        """What the worker needs, without the problems."""
        return {
            "model": model.name,
            "family": model.family,
            "crystal": model.crystal,
            "cutoff": self.facts(model)[ORIGINAL]["cutoff"],
            "variants": self.variants(model),
            "threads": threads,
        }

    def missing(self, model: Model, threads: int) -> list[int]:
        """Sizes that have not been measured, or on other model files."""
        key = self.key(model)
        parts = {n: read_json(self.part(model.name, n, threads)) for n in self.atoms}
        return [n for n, found in parts.items() if found is None or found["key"] != key]

    def groups(self) -> list[tuple[Model, int, list[int]]]:
        """One per process that is left to run: model, threads, sizes."""
        every = [(MODELS[m], t, self.missing(MODELS[m], t)) for m in self.models
                 for t in self.threads]  # fmt: skip
        return [group for group in every if group[2]]


def relative_costs(facts: Mapping[str, Mapping[str, Any]], edges: float) -> float:
    """Calls of all variants, in calls of the original, by the cost model."""
    flops = {v: f["flops_node"] + edges * f["flops_edge"] for v, f in facts.items()}
    return sum(flops.values()) / flops[ORIGINAL]


def fixed_and_per_round(plan: Plan, probes: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Seconds of everything but the rounds; and seconds of one round of every problem."""
    fixed, one_round = 0.0, 0.0
    for model, threads, sizes in plan.groups():
        probe, facts = probes[model.name], plan.facts(model)
        edges = EDGES_LIKE[model.crystal]
        each = relative_costs(facts, edges) * probe["per_edge"][str(threads)] * edges
        one_round += each * sum(sizes)
        fixed += START_SECONDS + probe["load"] * len(facts) + WARMUP_CALLS * each * (sum(sizes) + 8)
    return fixed, one_round


def choose_repeats(fixed: float, one_round: float, minutes: float) -> int:
    """Rounds that fit into the time, within bounds."""
    fits = int((minutes * 60 - fixed) / max(one_round, 1e-9))
    return max(MIN_REPEATS, min(MAX_REPEATS, fits))


def parse_list(text: str, kind: type, known: Sequence[Any] = ()) -> tuple[Any, ...]:
    """``64,216`` → (64, 216).

    Raises:
        ValueError: an entry that is not of the kind, or not known.
    """
    values = tuple(dict.fromkeys(kind(part.strip()) for part in text.split(",")))
    unknown = [v for v in values if known and v not in known]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(map(str, known))}")
    return values
