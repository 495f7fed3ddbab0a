"""Several processes that train one student: each has its share of every step.

Gradients are added up once per step. Sums are divided by counts over all processes, so that the
result is that of one process with the whole batch (but for the order of the sums).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among ``world``; one alone needs no process group."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the processes, with one message per dtype."""
        if self.world == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # the same order in all processes
            same = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in same])
            dist.all_reduce(flat)
            for t, part in zip(same, flat.split([t.numel() for t in same]), strict=True):
                t.copy_(part.view_as(t))

    def of_first(self, value: T) -> T:
        """What the first process has, in all of them; any plain value."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


ALONE = Processes()


def join_group(device: str) -> Processes:
    """The group that torchrun started this process in, or this process alone.

    Gloo on the CPU, NCCL on CUDA devices. NCCL sends objects and barriers through the current device,
    so that must be this process's own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if device.startswith("cuda"):
        torch.cuda.set_device(own_device(device))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def own_device(device: str) -> str:
    """``cuda`` as the device of this process: one each where torchrun started several."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def share(indices: Sequence[int], processes: Processes, parts: int) -> list[list[int]]:
    """This process's part of a step's structures, in ``parts`` batches."""
    own = indices[processes.rank :: processes.world]
    size = -(-len(own) // parts)
    return [list(own[i : i + size]) for i in range(0, len(own), size)]
