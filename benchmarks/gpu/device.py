"""The GPU that is measured: its name, a timer, the bandwidth of a copy, and the time that is left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.failures import attempt
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.lookup import known_architecture

Call = Callable[[], object]
COPY = 1 << 30
"""Bytes that the measured copy reads, and as many that it writes: no cache holds them."""


class NoGpu(SystemExit):
    """There is nothing to measure on; the exit code is 2."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


@dataclass(frozen=True)
class Device:
    """Where kernels run, and what times them."""

    name: str
    place: Any
    """torch's device."""
    timer: Callable[[Call], float]
    """Seconds of one call on the device."""
    bandwidth: float
    """Bytes per second of a copy, read and written."""
    architecture: Architecture | None = None
    """What its kernels are compiled for; None where it is not known."""


def gpu() -> Device:
    """The first GPU.

    Raises:
        NoGpu: torch finds none.
    """
    import torch

    if not torch.cuda.is_available():
        raise NoGpu(
            "benchmarks.gpu.run needs a GPU, and torch finds none; --device cpu --stages correctness"
            " checks the kernels in Triton's interpreter (TRITON_INTERPRET=1)"
        )
    from irprune.kernels.tuner.stage2 import CudaTimer

    place = torch.device("cuda", 0)
    timer = CudaTimer(place)
    source = torch.empty(COPY, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    seconds = [timer(lambda: target.copy_(source)) for _ in range(12)][2:]
    return Device(
        torch.cuda.get_device_name(place),
        place,
        timer,
        2 * COPY / statistics.median(seconds),
        known_architecture(place),
    )


@dataclass
class Budget:
    """Seconds for the whole run, given out stage by stage."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.clock()

    def left(self) -> float:
        return self.seconds - (self.clock() - self.start)

    def until(self, share: float) -> Callable[[], bool]:
        """Says whether there is time left in a stage that may last to this share of the whole."""
        return lambda: self.seconds_until(share) > 0

    def seconds_until(self, share: float) -> float:
        """Seconds until this share of the whole is over."""
        return self.left() - (1 - share) * self.seconds


def in_turn(
    calls: Mapping[str, Call],
    timer: Callable[[Call], float],
    rounds: int,
    warmup: int = 3,
    failed: dict[str, str] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every call in each round; every round starts with another call.

    A call that raises takes no further part and has no times; ``failed`` gets its error by name.
    """
    failed = {} if failed is None else failed
    times: dict[str, list[float]] = {name: [] for name in calls}

    def once(name: str) -> None:
        seconds = attempt(failed, name, lambda: timer(calls[name]))
        if seconds is None:
            del times[name]
        else:
            times[name].append(seconds)

    for name in calls:
        for _ in range(warmup):
            if name in times:
                once(name)
    for found in times.values():
        found.clear()
    names = list(times)
    for k in range(rounds):
        shift = k % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            if name in times:
                once(name)
    return times
