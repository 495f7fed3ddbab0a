"""The training loss: terms of energies, forces, stress and what else a teacher says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from irprune.data.batch import Batch
from irprune.evaluation.potential import Prediction
from irprune.recover.settings import Settings
from irprune.recover.targets import Examples

DELTA = {
    "energy": 0.01,
    "forces": 0.01,
    "stress": 0.001,
    "node-energy": 0.01,
    "hessian": 0.1,
    "features": 0.1,
}
"""Where the Huber loss turns from quadratic to linear: eV per atom, eV/Å, eV/Å³, eV, eV/Å², spreads."""
UNITS = {
    "energy": "energy_mae_ev_per_atom",
    "forces": "force_mae_ev_per_a",
    "stress": "stress_mae_ev_per_a3",
    "node-energy": "node_energy_mae_ev",
    "hessian": "force_slope_mae_ev_per_a2",
    "features": "feature_mae",
}
"""What the mean absolute error of a term is called."""


@dataclass(frozen=True)
class Term:
    """weight · mean of Huber(error) / delta, about the mean absolute error; or of error² (mse)."""

    what: str
    """Key of ``DELTA``."""
    source: str
    """labels or teacher."""
    weight: float
    kind: str = "huber"
    node: str = ""
    """Of features."""
    scale: float = 1.0
    """What errors are divided by."""

    @property
    def target(self) -> str:
        """Name of the target in ``Examples.targets``."""
        return f"{self.source}.{self.what}" + (f" {self.node}" if self.node else "")

    def errors(self, found: Found, examples: Examples) -> Tensor:
        """Errors of what is known, flat."""
        wanted = examples.targets[self.target]
        if self.what == "energy":
            wanted = wanted / examples.batch.n_atoms.to(wanted)
        error = found.value(self) - wanted
        return error[~torch.isnan(wanted)]

    def known(self, examples: Examples) -> int:
        """How many numbers are compared."""
        return int((~torch.isnan(examples.targets[self.target])).sum())

    def sum(self, error: Tensor) -> Tensor:
        """Σ over errors, weighted."""
        error = error / self.scale
        if self.kind == "mse":
            return self.weight * error.square().sum()
        delta = DELTA[self.what]
        zero = torch.zeros_like(error)
        return self.weight * huber_loss(error, zero, delta=delta, reduction="sum") / delta


@dataclass(frozen=True, eq=False)
class Found:
    """What a student says about a batch."""

    prediction: Prediction
    batch: Batch
    features: Mapping[str, Tensor]

    def value(self, term: Term) -> Tensor:
        """What a term compares with its target."""
        return _VALUES[term.what](self, term)


def _checked(value: Tensor | None, what: str) -> Tensor:
    assert value is not None, f"{what} was not computed"
    return value


_VALUES: Mapping[str, Callable[[Found, Term], Tensor]] = {
    "energy": lambda f, t: f.prediction.energy / f.batch.n_atoms.to(f.prediction.energy),
    "forces": lambda f, t: _checked(f.prediction.forces, "forces"),
    "stress": lambda f, t: _checked(f.prediction.stress, "stress"),
    "node-energy": lambda f, t: f.prediction.energies,
    "hessian": lambda f, t: _checked(f.prediction.force_slopes, "force slopes"),
    "features": lambda f, t: f.features[t.node],
}


def terms_of(
    settings: Settings, sources: Mapping[str, float], spreads: Mapping[str, float]
) -> tuple[Term, ...]:
    """The terms with a weight.

    Args:
        settings: weights.
        sources: labels and teacher, with their shares of the loss.
        spreads: root mean square of the teacher's features, by node.
    """
    out = []
    for source, share in sources.items():
        for what, weight in (
            ("energy", settings.energy_weight),
            ("forces", settings.force_weight),
            ("stress", settings.stress_weight),
        ):
            if weight * share > 0:
                out.append(Term(what, source, weight * share, settings.loss))
    if "teacher" in sources:
        for what, weight in (
            ("node-energy", settings.node_energy_weight),
            ("hessian", settings.hessian_weight),
        ):
            if weight > 0:
                out.append(Term(what, "teacher", weight, settings.loss))
        for node, spread in spreads.items():
            weight = settings.feature_weight / len(spreads)
            out.append(Term("features", "teacher", weight, settings.loss, node, max(spread, 1e-12)))
    return tuple(out)


def count(terms: Sequence[Term], examples: Sequence[Examples]) -> Tensor:
    """How many numbers each term compares [terms]."""
    known = [[t.known(e) for t in terms] for e in examples]
    return torch.tensor(known, dtype=torch.float64).sum(dim=0)


def compare(
    terms: Sequence[Term], found: Found, examples: Examples, counts: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The part of the loss that these examples make, and Σ |error| of each term.

    Args:
        terms: of the loss.
        found: what the student says.
        examples: what it should say.
        counts: how many numbers each term compares in the whole batch.
    """
    total = found.prediction.energies.sum() * 0.0
    absolute = []
    for term, n in zip(terms, counts, strict=True):
        if not n:
            absolute.append(torch.zeros((), dtype=torch.float64, device=total.device))
            continue
        error = term.errors(found, examples)
        total = total + term.sum(error) / n
        absolute.append(error.detach().abs().double().sum() / term.scale)
    return total, absolute


def named_errors(terms: tuple[Term, ...], sums: Tensor, counts: Tensor) -> dict[str, float]:
    """Mean absolute errors by name; NaN where nothing was compared.

    Labels and teacher have names of their own where both are learned from.
    """
    both = len({t.source for t in terms}) > 1
    found: dict[str, list[float]] = {}
    for term, total, count in zip(terms, sums.tolist(), counts.tolist(), strict=True):
        name = (f"{term.source}_" if both else "") + UNITS[term.what]
        found.setdefault(name, []).append(total / count if count else float("nan"))
    return {name: sum(v) / len(v) for name, v in found.items()}
