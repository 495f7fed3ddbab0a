"""Runs the checks of the kit and says what failed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from irprune.errors import CheckFailed, UsageError
from irprune.testing.checks import CHECKS
from irprune.testing.subject import Make, Subject, subject


@dataclass(frozen=True)
class Finding:
    """One check on one seed."""

    check: str
    seed: int
    value: float
    tolerance: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and self.value <= self.tolerance

    def __str__(self) -> str:
        measured = self.error or f"{self.value:.3g} > {self.tolerance:.3g}"
        promise = (CHECKS[self.check][0].__doc__ or "").strip()
        return f"{self.check} (seed {self.seed}): {measured}; promised: {promise}"


def findings(
    make: Make, seeds: Sequence[int] = (0, 1, 2), skip: Collection[str] = ()
) -> Iterator[Finding]:
    """Every check on every seed, one after another.

    Args:
        make: makes a module and the types of its operands from a random generator.
        seeds: how often, with other irreps, weights and masks.
        skip: checks to leave out, by name: ``file`` for an op without ``spec`` and ``build``.

    Raises:
        UsageError: an unknown check in ``skip``, or no op for the module.
    """
    unknown = sorted(set(skip) - set(CHECKS))
    if unknown:
        raise UsageError(f"unknown check {', '.join(unknown)}; known are {', '.join(CHECKS)}")
    for seed in seeds:
        tested = subject(make, seed)
        _ = tested.op
        for name in CHECKS:
            if name not in skip:
                yield _measured(name, tested)


def _measured(name: str, tested: Subject) -> Finding:
    measure, tolerance = CHECKS[name]
    try:
        return Finding(name, tested.seed, measure(tested), tolerance)
    except Exception as error:  # whatever an op raises is a finding
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(name, tested.seed, float("inf"), tolerance, text)


def conform(make: Make, seeds: Sequence[int] = (0, 1, 2), skip: Collection[str] = ()) -> None:
    """Holds an op to all it promises; arguments as for :func:`findings`.

    Raises:
        CheckFailed: names the op, and every check that failed with the seed and what it promises.
    """
    failed = [f for f in findings(make, seeds, skip) if not f.ok]
    if failed:
        name = subject(make, seeds[0]).op.name
        raise CheckFailed(
            f"op {name} does not conform:" + "".join(f"\n  {finding}" for finding in failed)
        )
