"""Whether there is anything to learn: terms of the loss that no structure has a number for."""

from __future__ import annotations

from collections.abc import Sequence

from irprune.errors import DataError
from irprune.recover.lessons import Lessons
from irprune.recover.loss import Term

ASKED = ("stress", "node-energy", "hessian", "features")
"""Terms that are off unless their weight is given: who gives it wants them learned."""


def check_terms(terms: Sequence[Term], learn: Lessons, held: Lessons | None) -> None:
    """Refuses a run whose loss would be zero, or lack a term that was asked for, without a word.

    Energies and forces have weights by default; data with only one of them are fine.

    Raises:
        DataError: no structure has a number for any term, or for one that was asked for.
    """
    known = {t: learn.known(t.target) for t in terms}
    empty = [t for t in terms if not known[t] and t.what in ASKED]
    if empty:
        whose = "its labels" if empty[0].source == "labels" else "what the teacher says"
        hint = " (only structures with a cell have one)" if empty[0].what == "stress" else ""
        raise DataError(
            f"recover: {empty[0].what}-weight is set, but none of the {len(learn)} structures has a"
            f" {empty[0].what} in {whose}{hint}; set it to 0, or give structures that have it"
        )
    for lessons, which in ((learn, "structures"), (held, "held-out structures")):
        if lessons is not None and not any(lessons.known(t.target) for t in terms):
            wanted = ", ".join(dict.fromkeys(t.what for t in terms))
            raise DataError(
                f"recover: the loss compares {wanted}, and none of the {len(lessons)} {which} has"
                " any of these; set the weight of what is there, or label them"
            )
