"""The physical rungs of the verification ladder: each returns a Check, whether it holds or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import Atoms

from irprune.errors import UsageError
from irprune.evaluation.derivatives import forces, stress
from irprune.evaluation.differences import detail_of, differences, dtype_name, need_frames
from irprune.evaluation.dynamics import nve
from irprune.evaluation.invariance import inversion, permutation, rotation, translation
from irprune.evaluation.potential import Potential
from irprune.evaluation.response import response
from irprune.verification.checks import Check, make_check, worse
from irprune.verification.tolerances import tolerance

__all__ = [
    "RUNGS",
    "Check",
    "agreement",
    "forces",
    "inversion",
    "nve",
    "permutation",
    "response",
    "rotation",
    "run_ladder",
    "stress",
    "translation",
]

Progress = Callable[[int, int], None]


def agreement(
    a: Potential,
    b: Potential,
    frames: Sequence[Atoms],
    check: str = "agreement",
    progress: Progress | None = None,
) -> Check:
    """Largest relative difference (see ``differences``) of energies and forces of ``a`` and ``b``.

    ``check`` is the row of the tolerance table: ``masked-sliced``, ``traced-original``,
    ``reload``, ``agreement`` or ``agreement-folded``. ``a`` is the reference. Both run in their own
    dtype, and the coarser one decides the tolerance.

    Raises:
        UsageError: no frames, or an unknown row.
    """
    need_frames(frames)
    for model in (a, b):  # TorchScript compiles at the second call; its result moves by a rounding
        model.evaluate(model.collate(frames[:1]))
    worst_e = worst_f = 0.0
    for i, atoms in enumerate(frames):
        batch = a.collate([atoms])
        e, f = differences(a.evaluate(batch), b.evaluate(b.collate([atoms])), batch.batch)
        worst_e, worst_f = worse(worst_e, e), worse(worst_f, f)
        _tell(progress, i + 1, len(frames))
    dtypes = {dtype_name(a.dtype), dtype_name(b.dtype)}
    limit = tolerance(check, "float32" if "float32" in dtypes else "float64", a.atomistic.dtype)
    return make_check(check, worse(worst_e, worst_f), limit, detail_of(worst_e, worst_f, frames))


RUNGS: dict[str, Callable[[Potential, Sequence[Atoms]], Check]] = {
    "response": response,
    "rotation": rotation,
    "inversion": inversion,
    "translation": translation,
    "permutation": permutation,
    "forces": forces,
    "stress": stress,
    "nve": nve,
}
"""The rungs in order; ``against`` comes first if there is something to compare with."""


def run_ladder(
    potential: Potential,
    frames: Sequence[Atoms],
    against: Potential | None = None,
    steps: Sequence[str] | None = None,
    progress: Progress | None = None,
    folded: bool = False,
) -> list[Check]:
    """Runs the rungs named in ``steps``, in the order of the ladder.

    By default all that apply: inversion only for models that claim it, stress only if a frame has
    a volume, agreement only with ``against``. A rung that is named and does not apply is an error.
    ``folded``: one of the two models is optimized, and agreement is ``agreement-folded``.

    Raises:
        UsageError: no frames, an unknown rung, or ``agreement`` without ``against``.
        DataError: a named rung cannot run on these frames.
    """
    need_frames(frames)
    known = ["agreement", *RUNGS]
    unknown = [s for s in steps or () if s not in known]
    if unknown:
        raise UsageError(f"unknown check {', '.join(unknown)}; known are {', '.join(known)}")
    if steps is not None and "agreement" in steps and against is None:
        raise UsageError("the agreement check needs a second model to compare with (against)")
    chosen = (
        [s for s in known if s in steps]
        if steps is not None
        else _default(potential, frames, against)
    )
    checks = []
    for i, name in enumerate(chosen):
        if name == "agreement":
            assert against is not None
            row = "agreement-folded" if folded else "agreement"
            checks.append(agreement(against, potential, frames, row))
        else:
            checks.append(RUNGS[name](potential, frames))
        _tell(progress, i + 1, len(chosen))
    return checks


def _default(potential: Potential, frames: Sequence[Atoms], against: Potential | None) -> list[str]:
    applies = {
        "agreement": against is not None,
        "inversion": potential.atomistic.inversion,
        "stress": any(a.pbc.any() and a.cell.rank == 3 for a in frames),
        "nve": any(len(a) > 1 for a in frames),
    }
    return [name for name in ("agreement", *RUNGS) if applies.get(name, True)]


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
