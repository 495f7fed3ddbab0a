"""Work in processes beside each other; the kernels that are compiled there."""

from __future__ import annotations

import math
import os
import time

import pytest
import torch

from irprune.kernels.triton.config import configs, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner import pool
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.pool import CompilerDied, in_processes
from irprune.kernels.tuner.stage1 import compile_source, survey
from tests.kernels import specs
from tests.kernels.tuner.fakes import scalars

triton = pytest.importorskip("triton")

SM_90 = architecture_named("sm_90")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    """A cache of triton's own, which processes inherit: each test starts others."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    pool._pool.cache_clear()
    yield
    pool._pool.cache_clear()


GIVEN = {f"{n}!": (n,) for n in range(6)}


def test_one_job_is_done_here_and_in_order(monkeypatch):
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    assert list(in_processes(math.factorial, GIVEN, 1)) == [
        (f"{n}!", math.factorial(n)) for n in range(6)
    ]
    assert list(in_processes(os.getpid, {"alone": ()}, 8)) == [("alone", os.getpid())]
    assert list(in_processes(math.factorial, {}, 8)) == []


def test_processes_give_all_of_it():
    assert dict(in_processes(math.factorial, GIVEN, 2)) == dict(
        in_processes(math.factorial, GIVEN, 1)
    )
    pids = {pid for _, pid in in_processes(os.getpid, dict.fromkeys("abcd", ()), 2)}
    assert os.getpid() not in pids


def test_a_process_that_ends_is_an_error_and_the_next_work_is_done():
    given = {"first": (3,), "second": (3,), "third": (3,)}
    with pytest.raises(CompilerDied) as error:
        list(in_processes(os._exit, given, 2))
    assert str(error.value) == (
        "a process that compiled kernels ended, as where a compiler crashes or memory does not"
        " suffice; it had one of these: first; second; third"
    )
    assert dict(in_processes(math.factorial, GIVEN, 2))["5!"] == 120


def test_an_error_is_that_of_the_work():
    with pytest.raises(ValueError, match="negative"):
        list(in_processes(math.factorial, {"a": (-1,), "b": (-2,)}, 2))


def test_who_stops_listening_does_not_wait_for_the_rest():
    given = {str(i): (0.2,) for i in range(50)}
    start = time.perf_counter()
    for _ in in_processes(time.sleep, given, 2):
        break
    assert dict(in_processes(math.factorial, GIVEN, 2))
    assert time.perf_counter() - start < 5.0


@pytest.mark.slow
def test_a_survey_is_the_same_with_more_jobs():
    spec, kept = scalars(), []
    alone = survey(spec, torch.float32, SM_90, 32)
    found = survey(spec, torch.float32, SM_90, 32, jobs=2, keep=lambda c: kept.append(len(c)))
    assert found == alone
    assert kept == list(range(1, len(alone) + 1))


class Driver:
    """What a launch asks of the driver before it compiles."""

    def __init__(self, target):
        self.target = target

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.mark.parametrize("architecture", ["sm_90", "gfx942"])
def test_a_launch_finds_what_was_compiled(architecture, monkeypatch):
    """What a launch asks for lies in triton's cache by the same name."""
    from triton import knobs
    from triton.runtime import driver

    made = architecture_named(architecture)
    spec = specs.spec_named("odd")
    found = sources(spec, default(spec), torch.float32)
    for source in found:
        compile_source(source, made)
    hits = []
    monkeypatch.setattr(driver, "_active", Driver(made.target()))
    monkeypatch.setattr(
        knobs.compilation, "listener", lambda **given: hits.append(given["cache_hit"])
    )
    kinds = {"*fp32": torch.float32, "*i64": torch.int64}

    def launch(source):
        operands = [kinds[k] for k in source.signature.values() if k in kinds]
        source.fn.device_caches.clear()
        source.fn.warmup(*operands, grid=(1,), **source.constexprs, **source.options)
        source.fn.device_caches.clear()

    for source in found:
        launch(source)
    assert hits == [True] * len(found)
    launch(sources(spec, next(c for c in configs(spec) if c.variant == "atomic"), torch.float32)[0])
    assert hits[-1] is False
