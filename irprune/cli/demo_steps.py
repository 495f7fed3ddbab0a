"""The steps of the demo, from a checkpoint to a verified smaller one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.passmanager import CheckLike, PipelineReport, Progress

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.cli.common import Session
    from irprune.evaluation.potential import Potential

Stage = Callable[[str], AbstractContextManager[Progress]]

N_SCORE, N_TRAIN, N_TEST = 8, 48, 12
RECOVER_SECONDS = 60.0
MAX_ATOMS = 8
MAX_FORCE = 10.0
"""eV/Å."""


@dataclass(frozen=True)
class Plan:
    """What the demo is asked to do."""

    model: str
    keep: float
    steps: int
    elements: tuple[str, ...]
    folder: Path
    seed: int

    @property
    def recovery(self) -> str:
        """The second half of the pipeline; it stops by the clock on slow machines."""
        return f"recover{{steps={self.steps},batch=4,deadline={RECOVER_SECONDS!r}}}"

    @property
    def pipeline(self) -> str:
        """Scores, selects and slices; recovery and export follow, with measurements in between."""
        return (
            f"score{{by=energy-force,structures={N_SCORE}}},select{{keep={self.keep!r}}},"
            "slice,rewrite-tp"
        )


@dataclass(frozen=True)
class Outcome:
    """What came out: graphs, measurements, checks."""

    original: Any
    pruned: Any
    recovered: Any
    report: PipelineReport
    recovery: PipelineReport
    errors: tuple[Any, Any]
    """Metrics against the original, before and after recovery."""
    exported: Any
    latencies: tuple[float, float]
    """Seconds for energy and forces: original, recovered."""
    latency_atoms: int
    checks: tuple[CheckLike, ...]
    changes: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    """What each pass changed, before the recovery and with it."""

    @property
    def distillation(self) -> Any:
        """What the recovery did, step by step."""
        return self.recovery.results["recover"]


def run_demo(session: Session, plan: Plan, stage: Stage) -> Outcome:
    """Runs all steps; each shows its progress."""
    from irprune import api
    from irprune.debugging.changes import ChangeLog
    from irprune.evaluation.metrics import compare_potentials
    from irprune.export import export
    from irprune.verification.ladder import claim_rung, masked_sliced_rung, types_rung
    from irprune.verification.physical import run_ladder

    with stage(f"load and trace {plan.model}"):
        original = session.load(plan.model)
    reference = api.potential(original)
    with stage("generate structures, and label them with the original"):
        training = _structures(plan, reference, N_TRAIN, plan.seed)
        test = _structures(plan, reference, N_TEST, plan.seed + 1)
    logs = (ChangeLog(), ChangeLog())
    with stage("score blocks, select, slice") as progress:
        pruned, report = api.run_reported(
            plan.pipeline,
            original,
            training,
            seed=plan.seed,
            device=session.device,
            progress=progress,
            observers=[logs[0]],
        )
    with stage("masked = sliced, in float64"):
        small = sorted(test, key=len)[:3]
        checks: list[CheckLike] = [
            types_rung(pruned),
            masked_sliced_rung(pruned, small),
            claim_rung(pruned, small),
        ]
    with stage("error against the original") as progress:
        before = compare_potentials(
            api.potential(pruned), reference, test, progress=_two(progress, "pruned")
        )
    session.log(_told(before))
    with stage("recover by distillation from the original") as progress:
        recovered, recovery = api.run_reported(
            plan.recovery,
            pruned,
            training,
            seed=plan.seed,
            teacher=original,
            progress=progress,
            observers=[logs[1]],
        )
    with stage("error against the original") as progress:
        after = compare_potentials(
            api.potential(recovered), reference, test, progress=_two(progress, "recovered")
        )
    session.log(_told(after))
    with stage("export, and reload in a fresh process with the family's own calculator"):
        name = f"{Path(plan.model).stem}-half{_suffix(original)}"
        # relative differences in float32 say most where energies and forces are not nearly zero
        exported = export(
            recovered, plan.folder / name, "auto", frames=_lively(test, reference)[:3]
        )
        checks += exported.checks
    with stage("verify symmetries, forces, stress, energy conservation") as progress:
        potential = api.potential(recovered, dtype="float64")
        checks += run_ladder(potential, small, progress=_two(progress, "ladder"))
    with stage("measure latency") as progress:
        atoms = _big(plan)
        times = _latencies(original, recovered, atoms, progress)
    return Outcome(
        original,
        pruned,
        recovered,
        report,
        recovery,
        (before, after),
        exported,
        times,
        len(atoms),
        tuple(checks),
        (logs[0].found, logs[1].found),
    )


def _structures(plan: Plan, reference: Potential, n: int, seed: int) -> list[Atoms]:
    """Generated structures on which the original's forces are those of matter, not of collisions."""
    from irprune.data.generate import generate
    from irprune.errors import DataError

    found: list[Atoms] = []
    for atoms in generate(plan.elements, 2 * n, seed, max_atoms=MAX_ATOMS):
        forces = reference.evaluate(reference.collate([atoms])).forces
        assert forces is not None
        if float(forces.abs().max()) <= MAX_FORCE:
            found.append(atoms)
        if len(found) == n:
            return found
    raise DataError(
        f"only {len(found)} of {2 * n} generated structures of {', '.join(plan.elements)} have forces"
        f" below {MAX_FORCE:g} eV/Å; choose other elements"
    )


def _lively(frames: list[Atoms], reference: Potential) -> list[Atoms]:
    """The larger half of the structures, those with large forces first."""

    def force(atoms: Atoms) -> float:
        found = reference.evaluate(reference.collate([atoms])).forces
        return 0.0 if found is None else float(found.abs().max())

    return sorted(sorted(frames, key=len)[len(frames) // 2 :], key=force, reverse=True)


def _suffix(graph: Any) -> str:
    """The ending that files of the family have."""
    return {"mace": ".model", "sevennet": ".pth"}.get(graph.source.family, ".irp")


def _big(plan: Plan) -> Atoms:
    """A crystal of 64 atoms of the demo's elements."""
    from ase.build import bulk

    first, last = plan.elements[len(plan.elements) // 2], plan.elements[0]
    atoms = bulk(first + last, "rocksalt", a=4.3, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=plan.seed)
    return atoms


def _latencies(
    original: Any, recovered: Any, atoms: Atoms, progress: Progress
) -> tuple[float, float]:
    from irprune import api
    from irprune.cli.timing import latencies

    first, second = latencies(
        [api.potential(original), api.potential(recovered)], atoms, progress=progress
    )
    return first, second


def _two(progress: Progress, label: str) -> Callable[[int, int], None]:
    """A progress that takes (done, total)."""
    return lambda done, total: progress(label, done, total)


def _told(metrics: Any) -> str:
    return (
        f"        energy {1000 * metrics.energy_mae_ev_per_atom:.3g} meV/atom,"
        f" forces {1000 * metrics.force_mae_ev_per_a:.3g} meV/Å from the original"
    )
