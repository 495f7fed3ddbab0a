"""The time of a run, and the deadline that it may have."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from irprune.recover.parallel import Processes


@dataclass(frozen=True)
class Clock:
    """Runs from when it is made."""

    deadline: float | None
    """Seconds."""
    processes: Processes
    device: torch.device
    """Where the processes exchange tensors."""
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def passed(self) -> float:
        """Share of the deadline that has passed, the same in all processes; 0 without one."""
        if self.deadline is None:
            return 0.0
        passed = torch.tensor([self.seconds * self.processes.first], device=self.device)
        self.processes.add_up([passed])
        return float(passed) / self.deadline
