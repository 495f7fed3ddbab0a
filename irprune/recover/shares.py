"""Who is learned from: labels, a teacher, or both."""

from __future__ import annotations

from irprune.errors import UsageError
from irprune.recover.settings import Settings


def shares_of(settings: Settings, has_teacher: bool) -> dict[str, float]:
    """labels and teacher, as far as they are learned from, with their shares of the loss.

    Raises:
        UsageError: a teacher is asked for that is not there, or terms that only one has.
    """
    learn = settings.learn
    if learn == "auto":
        learn = "teacher" if has_teacher else "labels"
    if learn != "labels" and not has_teacher:
        raise UsageError(f"recover: learn={learn} needs a teacher; give one, or learn=labels")
    only = [
        n
        for n in ("node_energy_weight", "feature_weight", "hessian_weight")
        if getattr(settings, n) > 0 and learn == "labels"
    ]
    if only:
        names = ", ".join(n.replace("_", "-") for n in only)
        raise UsageError(f"recover: {names} can be learned from a teacher only; give one")
    if learn == "both":
        return {"labels": settings.label_share, "teacher": 1 - settings.label_share}
    return {learn: 1.0}
