"""The timer of a GPU, on a GPU that is made of two clocks: its own and that of the host."""

from __future__ import annotations

import contextlib

import pytest
import torch

from irprune.kernels.tuner import stage2
from irprune.kernels.tuner.stage2 import CLOCK, LONGEST, CudaTimer

FLUSHED = 1e-4
"""Seconds that a flush of the cache takes."""


class Gpu:
    """Work is queued at the time of the host, and done after all that was queued before."""

    def __init__(self):
        self.host = self.done = 0.0
        self.current: list[torch.device] = []
        self.recorded_on: list[torch.device] = []

    def queue(self, seconds, host=0.0):
        self.host += host
        self.done = max(self.done, self.host) + seconds

    @contextlib.contextmanager
    def device(self, device):
        self.current.append(device)
        yield
        self.current.pop()

    def event(gpu, enable_timing):
        class Event:
            def record(self):
                gpu.recorded_on.append(gpu.current[-1])
                gpu.queue(0.0)
                self.at = gpu.done

            def synchronize(self):
                gpu.host = max(gpu.host, self.at)

            def elapsed_time(self, other):
                return 1000 * (other.at - self.at)

        return Event()

    def empty(gpu, *_, **__):
        class Cache:
            def zero_(self):
                gpu.queue(FLUSHED)

        return Cache()


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", made.event)
    monkeypatch.setattr(torch.cuda, "device", made.device)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: made.queue(cycles / CLOCK))
    monkeypatch.setattr(torch, "empty", made.empty)
    monkeypatch.setattr(stage2.time, "perf_counter", lambda: made.host)
    return made


def kernels(gpu, host):
    """Ten kernels of 30 µs that take the host a tenth of its time each."""

    def call():
        for _ in range(10):
            gpu.queue(3e-5, host / 10)

    return call


@pytest.mark.parametrize("host", [1e-5, 1.8e-3, 0.9 * LONGEST])
def test_the_time_of_the_host_is_not_in_a_time(gpu, host):
    timer, call = CudaTimer(torch.device("cuda", 0)), kernels(gpu, host)
    first = timer(call)
    assert (first > 3.1e-4) == (host > FLUSHED + 3e-4)  # nothing is known of the host yet
    assert timer(call) == pytest.approx(3e-4)


def test_a_call_that_compiles_makes_no_later_one_wait_long(gpu):
    timer = CudaTimer(torch.device("cuda", 0))
    timer(kernels(gpu, 60.0))
    start = gpu.host
    assert timer(kernels(gpu, 1e-3)) == pytest.approx(3e-4)
    assert gpu.host - start < 2 * LONGEST


def test_events_are_recorded_on_the_gpu_that_is_timed(gpu):
    place = torch.device("cuda", 1)
    CudaTimer(place)(kernels(gpu, 1e-5))
    assert set(gpu.recorded_on) == {place}
