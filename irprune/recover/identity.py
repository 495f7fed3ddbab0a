"""What makes a run the same run: a saved state is continued only where all of this agrees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from irprune.errors import UsageError
from irprune.recover import fingerprint
from irprune.recover.course import Course
from irprune.recover.settings import FREE, Settings


def identity_of(
    settings: Settings,
    course: Course,
    student: nn.Module,
    teacher: nn.Module | None,
    seed: int,
    head: str | None,
) -> dict[str, Any]:
    """Plain values by name, of a run whose ``student`` has its first weights still."""
    own = {k: v for k, v in settings.to_json().items() if k not in FREE}
    return {
        **own,
        "data": fingerprint.of_frames(course.lessons.frames),
        "held-out data": fingerprint.of_frames(() if course.held is None else course.held.frames),
        "first weights": fingerprint.of_weights(student),
        "teacher": fingerprint.of_weights(teacher),
        "steps": course.steps,
        "structures per step": course.size,
        "seed": seed,
        "head": head,
        "structures": len(course.lessons),
        "held-out structures": 0 if course.held is None else len(course.held),
    }


def check_same(was: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    """Refuses to continue another run.

    Raises:
        UsageError: something that decides the result has changed; names it.
    """
    changed = [k for k, v in now.items() if was.get(k) != v]
    if changed:
        text = ", ".join(f"{k} was {was.get(k)} and is {now[k]}" for k in changed)
        raise UsageError(f"cannot resume from {file} with other settings: {text}")
