"""The structures of a run with their targets, in the order in which steps want them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from ase import Atoms
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from irprune.atomistic import Atomistic
from irprune.data.batch import Batch, collate
from irprune.data.frames import named_frame
from irprune.errors import DataError
from irprune.evaluation.potential import Potential
from irprune.recover.parallel import ALONE, Processes
from irprune.recover.targets import Examples, Source

Progress = Callable[[int, int], None]


class Lessons:
    """Structures and targets. Targets are made once; neighbour lists once, or by worker processes."""

    def __init__(self, frames: Sequence[Atoms], student: Potential, workers: int = 0) -> None:
        """
        Args:
            frames: the structures; read when they are needed.
            student: whose dtype, device and cutoff the batches are made for.
            workers: processes that make neighbour lists, each time anew; 0 keeps them in memory.
        """
        self.frames, self.student, self.workers = frames, student, workers
        self.numbers = list(range(len(frames)))
        """Of the structures that are used."""
        self._targets: dict[int, dict[str, Tensor]] = {}
        self._batches: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def prepare(
        self,
        sources: Mapping[str, Source],
        max_force: float,
        processes: Processes = ALONE,
        progress: Progress | None = None,
    ) -> None:
        """Makes all targets (each process its share), and leaves wild structures out.

        Raises:
            DataError: every structure has a force above ``max_force`` (eV/Å).
        """
        own: dict[int, dict[str, Tensor]] = {}
        mine = self.numbers[processes.rank :: processes.world]
        for done, i in enumerate(mine):
            batch = self._batch(i)
            found: dict[str, Tensor] = {}
            with named_frame(self.frames, i):
                for source in sources.values():
                    found |= source.targets(i, self.frames[i], batch)
            own[i] = {k: v.cpu() for k, v in found.items()}
            if progress is not None:
                progress(done + 1, len(mine))
        everything: list[dict[int, dict[str, Tensor]]] = [own]
        if processes.world > 1:
            everything = [{} for _ in range(processes.world)]
            dist.all_gather_object(everything, own)
        targets = {i: t for part in everything for i, t in part.items()}
        self._targets = targets
        self.numbers = [i for i in self.numbers if _largest_force(targets[i]) <= max_force]
        if not self.numbers:
            raise DataError(
                f"every structure has a force above {max_force:g} eV/Å; give calmer structures or"
                " raise max-force"
            )

    def known(self, name: str) -> int:
        """How many numbers the targets of this name hold, over all structures; NaN is none."""
        found = (self._targets[i].get(name) for i in self.numbers)
        return sum(int((~torch.isnan(t)).sum()) for t in found if t is not None)

    def spreads(self, prefix: str) -> dict[str, float]:
        """Root mean square of every target whose name starts so, by what follows."""
        sums: dict[str, Tensor] = {}
        for i in self.numbers:
            for name, value in self._targets[i].items():
                if name.startswith(prefix):
                    new = torch.tensor([float(value.double().square().sum()), value.numel()])
                    sums[name] = sums.get(name, torch.zeros(2)) + new
        return {k.removeprefix(prefix): float((s / n) ** 0.5) for k, (s, n) in sums.items() if n}

    def stream(self, plan: Iterable[Sequence[int]]) -> Iterator[list[Examples]]:
        """For every entry of the plan (positions in ``numbers``) its examples."""
        numbered: Iterator[list[int]] = ([self.numbers[k] for k in part] for part in plan)
        if not self.workers:
            for part in numbered:
                yield [self._example(i, self._batch(i)) for i in part]
            return
        numbered, ahead = itertools.tee(numbered)
        loader = DataLoader(
            _Neighbours(self.frames, self.student),
            batch_sampler=ahead,
            collate_fn=list,
            num_workers=self.workers,
            multiprocessing_context="spawn",  # databases and threads do not survive a fork
        )
        for part, batches in zip(numbered, loader, strict=False):
            yield [self._example(i, b) for i, b in zip(part, batches, strict=True)]

    def _batch(self, i: int) -> Batch:
        found = self._batches.get(i)
        if found is None:
            found = self.student.collate([self.frames[i]])
            if not self.workers:
                self._batches[i] = found
        return found

    def _example(self, i: int, batch: Batch) -> Examples:
        device = self.student.device
        targets = {k: v.to(device) for k, v in self._targets[i].items()}
        return Examples(batch.to(device=device), targets)


def _largest_force(targets: Mapping[str, Tensor]) -> float:
    """eV/Å, of a component; what is not labelled counts as none."""
    sizes = [float(v.abs().nan_to_num().max()) for k, v in targets.items() if k.endswith(".forces")]
    return max(sizes, default=0.0)


class _Neighbours(Dataset[Batch]):
    """Structures as batches of one, on the CPU."""

    def __init__(self, frames: Sequence[Atoms], student: Potential) -> None:
        self.frames = frames
        self.atomistic: Atomistic = student.atomistic
        self.dtype, self.head = student.dtype, student.head

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> Batch:
        return collate([self.frames[i]], self.atomistic, self.dtype, head=self.head)
