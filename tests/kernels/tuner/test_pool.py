"""Work in processes beside each other; the kernels that are compiled there."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from irprune.kernels.triton.config import configs, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner import pool
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.compile import compile_source
from irprune.kernels.tuner.pool import CompilerDied, in_processes
from irprune.kernels.tuner.stage1 import survey
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


GIVEN = [(f"{n}!", (n,)) for n in range(6)]


def test_one_job_is_done_here_and_in_order(monkeypatch):
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    assert list(in_processes(math.factorial, GIVEN, 1)) == [
        (f"{n}!", math.factorial(n)) for n in range(6)
    ]
    assert list(in_processes(math.factorial, [], 1)) == []


def test_processes_give_all_of_it():
    assert list(in_processes(math.factorial, [], 2)) == []
    assert dict(in_processes(math.factorial, GIVEN, 2)) == dict(
        in_processes(math.factorial, GIVEN, 1)
    )
    pids = {pid for _, pid in in_processes(os.getpid, [(n, ()) for n in "abcd"], 2)}
    assert os.getpid() not in pids


def test_a_process_that_ends_is_an_error_and_the_next_work_is_done():
    given = [("first", (3,)), ("second", (3,)), ("third", (3,))]
    with pytest.raises(CompilerDied) as error:
        list(in_processes(os._exit, given, 2))
    assert str(error.value) == (
        "a process that compiled kernels ended, as where a compiler crashes, memory does not suffice,"
        " or a script has no guard of __main__; it had one of these: first; second; third"
    )
    assert dict(in_processes(math.factorial, GIVEN, 2))["5!"] == 120


def test_an_error_is_that_of_the_work():
    with pytest.raises(ValueError, match="negative"):
        list(in_processes(math.factorial, [("a", (-1,)), ("b", (-2,))], 2))


def test_who_stops_listening_stops_what_runs():
    given = [(str(i), (0.1 if i == 0 else 60.0,)) for i in range(9)]
    start = time.perf_counter()
    for name, _ in in_processes(time.sleep, given, 2):
        processes = list(pool._pool(2)._processes.values())
        assert name == "0"
        break
    assert dict(in_processes(math.factorial, GIVEN, 2))
    for process in processes:
        process.join(10)
        assert not process.is_alive()
    assert time.perf_counter() - start < 30


def test_the_time_ends():
    given = [(str(i), (0.1 if i == 0 else 60.0,)) for i in range(9)]
    start = time.perf_counter()
    assert [name for name, _ in in_processes(time.sleep, given, 2, seconds=4.0)] == ["0"]
    assert time.perf_counter() - start < 30


def test_the_time_ends_where_one_job_is_done_at_a_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def work():
        now[0] += 0.4

    given = [(str(i), ()) for i in range(20)]
    done = [name for name, _ in in_processes(work, given, 1, seconds=1.0)]
    assert done == ["0", "1", "2"], "the one that has begun is done to its end"


def timed_out(i):
    if i == 1:
        raise TimeoutError(110, "a disk far away")
    return i


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("seconds", [None, 60.0])
def test_an_error_of_the_work_is_not_the_end_of_the_time(jobs, seconds):
    with pytest.raises(TimeoutError, match="a disk far away"):
        list(in_processes(timed_out, [(str(i), (i,)) for i in range(4)], jobs, seconds))


def sleeper(folder, i):
    """What an assembler is to a compiler: a program of its own."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(os.path.join(folder, str(i)), "w") as file:
        file.write(str(child.pid))
    child.wait()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=60):
    """However slow the machine is: nothing is measured here."""
    until = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < until
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes under /proc")
def test_what_a_process_started_ends_with_it(tmp_path):
    def pids():
        return [int(text) for p in tmp_path.iterdir() if (text := p.read_text())]

    def given():
        for i in range(2):
            yield str(i), (str(tmp_path), i)
        wait_for(lambda: len(pids()) == 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_processes(sleeper, given(), 2))
    wait_for(lambda: not any(map(alive, pids())), 10)


SCRIPT = """import os, sys, time
from irprune.kernels.tuner.pool import _processes, in_processes

def main():
    given = [(str(i), (60 * (i > 1),)) for i in range(4)]
    for name, _ in in_processes(time.sleep, given, 2):
        print(*(p.pid for p in _processes(2)), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes under /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_they_end_with_the_process_that_began_the_work(tmp_path, name):
    """Which may be killed: nothing of its own runs then."""
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in script.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    script.send_signal(getattr(signal, name))
    script.wait()
    wait_for(lambda: not any(map(alive, pids)), 10)


def test_an_error_names_what_was_not_done(tmp_path):
    def given():
        for i in range(20):
            yield f"done {i}", (str(tmp_path / str(i)),)
        wait_for(lambda: len(list(tmp_path.iterdir())) == 20)
        wait_for(lambda: not pool._pool(2)._pending_work_items)
        yield "kills", ("",)

    with pytest.raises(CompilerDied) as error:
        list(in_processes(touch_or_die, given(), 2))
    assert str(error.value).endswith("it had one of these: kills")


def touch_or_die(path):
    if not path:
        os._exit(3)
    open(path, "w").close()


def test_the_time_ends_while_work_is_made(monkeypatch):
    made, now = [], [0.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def given():
        for i in range(9):
            made.append(i)
            yield str(i), (0,)
            now[0] += 2.0

    list(in_processes(time.sleep, given(), 2, seconds=3.0))
    assert made == [0, 1, 2]


def test_work_begins_while_the_last_of_it_is_made():
    seen = []

    def given():
        yield "first", (2,)
        wait_for(lambda: pool._processes(2))
        seen.append("processes")
        yield "second", (3,)

    assert dict(in_processes(math.factorial, given(), 2)) == {"first": 2, "second": 6}
    assert seen == ["processes"]


def test_a_process_that_ended_between_two_works_is_replaced():
    list(in_processes(math.factorial, GIVEN, 2))
    for process in pool._pool(2)._processes.values():
        process.kill()
        process.join()
    assert dict(in_processes(math.factorial, GIVEN, 2))["5!"] == 120


def test_an_interrupt_ends_it_at_once(tmp_path):
    """The work of other processes is not waited for, and none is begun."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, threading, time\n"
        "from irprune.kernels.tuner.pool import in_processes\n"
        "def main():\n"
        "    threading.Timer(3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "    list(in_processes(time.sleep, [(str(i), (60,)) for i in range(5)], 2))\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert time.perf_counter() - start < 30


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
        assert not source.fn.device_caches, "a launch on the GPU that is here would take it"
    assert driver._active is None or not type(driver._active).__module__.startswith("irprune")
    hits = []
    monkeypatch.setattr(driver, "_active", Driver(made.target()))
    monkeypatch.setattr(
        knobs.compilation, "listener", lambda **given: hits.append(given["cache_hit"])
    )

    def launch(source):
        """With tensors, as a launch has them; none is started."""
        kinds = {"*fp32": torch.float32, "*i64": torch.int64}
        tensors = [torch.zeros(64, dtype=kinds[k]) for k in source.signature.values() if k in kinds]
        source.fn.run(*tensors, grid=(1,), warmup=True, **source.constexprs, **source.options)
        source.fn.device_caches.clear()

    for source in found:
        launch(source)
    assert hits == [True] * len(found)
    launch(sources(spec, next(c for c in configs(spec) if c.variant == "atomic"), torch.float32)[0])
    assert hits[-1] is False
