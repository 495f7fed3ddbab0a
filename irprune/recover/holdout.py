"""Structures that are held out of training, to tell when it has gone far enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from ase import Atoms

from irprune.data.choice import View
from irprune.errors import UsageError
from irprune.recover.settings import Settings


def held_out(
    frames: Sequence[Atoms], settings: Settings, seed: int
) -> tuple[Sequence[Atoms], Sequence[Atoms]]:
    """Structures to learn from and held-out ones, by ``valid`` and ``group``.

    Raises:
        UsageError: nothing would be left on one side, or a structure lacks the key ``group``.
    """
    if not settings.valid:
        return frames, []
    keys = list(_groups(frames, settings.group))
    names = sorted(set(keys))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    wanted, taken, chosen = settings.valid * len(frames), 0, set()
    sizes = {n: keys.count(n) for n in names} if len(names) < len(keys) else dict.fromkeys(names, 1)
    for i in order:
        if taken >= wanted:
            break
        chosen.add(names[i])
        taken += sizes[names[i]]
    learn = [i for i, k in enumerate(keys) if k not in chosen]
    if not learn or not chosen:
        raise UsageError(
            f"recover: valid={settings.valid:g} of {len(frames)} structures in {len(names)} groups"
            " leaves none to learn from; give more structures or a smaller share"
        )
    return View(frames, learn), View(frames, [i for i, k in enumerate(keys) if k in chosen])


def _groups(frames: Sequence[Atoms], group: str | None) -> Iterator[str]:
    if group is None:
        yield from (f"{number:09d}" for number in range(len(frames)))
        return
    for number, atoms in enumerate(frames):
        if group in atoms.info:
            yield str(atoms.info[group])
        else:
            raise UsageError(
                f"recover: structure {number} ({atoms.get_chemical_formula()}) has no {group!r} in"
                " its info; give another group, or none"
            )
