"""The steps of the demo, from a checkpoint to a verified smaller one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.passmanager import CheckLike, PipelineReport, Progress

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.cli.common import Session

Stage = Callable[[str], AbstractContextManager[Progress]]

N_SCORE, N_TRAIN, N_TEST = 12, 96, 12
RECOVER_SECONDS = 90.0


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
    errors: tuple[Any, Any]
    """Metrics against the original, before and after recovery."""
    distillation: Any
    exported: Any
    latencies: tuple[float, float]
    """Seconds for energy and forces: original, recovered."""
    latency_atoms: int
    checks: tuple[CheckLike, ...]


def run_demo(session: Session, plan: Plan, stage: Stage) -> Outcome:
    """Runs all steps; each shows its progress."""
    from irprune import api
    from irprune.evaluate.metrics import compare_potentials
    from irprune.export import export
    from irprune.ladder import masked_sliced_rung, types_rung
    from irprune.verify import run_ladder

    with stage(f"load and trace {plan.model}"):
        original = session.load(plan.model)
    with stage("generate structures"):
        training = _structures(plan, N_TRAIN, plan.seed)
        test = _structures(plan, N_TEST, plan.seed + 1)
    with stage("score blocks, select, slice") as progress:
        pruned, report = api.run_reported(
            plan.pipeline,
            original,
            training,
            seed=plan.seed,
            device=session.device,
            progress=progress,
        )
    with stage("masked = sliced, in float64"):
        small = sorted(test, key=len)[:3]
        checks: list[CheckLike] = [types_rung(pruned), masked_sliced_rung(pruned, small)]
    reference = api.potential(original)
    with stage("error against the original") as progress:
        before = compare_potentials(
            api.potential(pruned), reference, test, progress=_two(progress, "pruned")
        )
    with stage("recover by distillation from the original") as progress:
        recovered, distillation = _recover(plan, original, pruned, training, progress)
    with stage("error against the original") as progress:
        after = compare_potentials(
            api.potential(recovered), reference, test, progress=_two(progress, "recovered")
        )
    with stage("export, and reload in a fresh process with the family's own calculator"):
        name = f"{Path(plan.model).stem}-half{_suffix(original)}"
        exported = export(recovered, plan.folder / name, "auto", frames=small)
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
        (before, after),
        distillation,
        exported,
        times,
        len(atoms),
        tuple(checks),
    )


def _structures(plan: Plan, n: int, seed: int) -> list[Atoms]:
    from irprune.data.generate import generate

    return generate(plan.elements, n, seed, max_atoms=12)


def _recover(
    plan: Plan, original: Any, pruned: Any, frames: Sequence[Atoms], progress: Progress
) -> tuple[Any, Any]:
    from irprune.recover.distill import distill

    student = pruned.module()
    result = distill(
        student,
        original.module(),
        pruned.atomistic,
        frames,
        steps=plan.steps,
        seed=plan.seed,
        deadline_s=RECOVER_SECONDS,
        progress=_two(progress, "step"),
    )
    return pruned.replace(gm=student), result


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
