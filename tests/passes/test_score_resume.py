"""A score that is killed and run again is the score of one run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from irprune.errors import UsageError
from irprune.passes.criteria import checkpoint
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from tests.passes import toy

ROOT = Path(__file__).resolve().parent.parent.parent

KILLED = """
import os, signal, sys
from tests.passes import toy
from irprune.passes.criteria import checkpoint
from irprune.passes.score import Score
from irprune.passmanager import PassContext
checkpoint.EVERY = 0.0

def progress(label, done, total=None):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Score(checkpoint=sys.argv[1]).run(
    toy.graph(), PassContext(frames=toy.frames(5), seed=4, progress=progress)
)
"""


@pytest.fixture(scope="module")
def graph(unscripted):
    return toy.graph()


class Interrupted(Exception):
    pass


def stop_after(count):
    def progress(label, done, total=None):
        if done == count:
            raise Interrupted

    return progress


def run(graph, frames, progress=lambda *args: None, seed=4, **options):
    found = Score(**options).run(graph, PassContext(frames=frames, seed=seed, progress=progress))
    return found.scores


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_after_a_kill_the_rerun_gives_the_same_scores(graph, tmp_path):
    file = tmp_path / "sums.safetensors"
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with safe_open(file, "np") as saved:
        assert json.loads(saved.metadata()["irprune-score"])["done"] == 3
    seen = []
    again = run(
        graph, toy.frames(5), lambda label, done, n: seen.append(done), checkpoint=str(file)
    )
    assert seen == [4, 5]
    whole = run(graph, toy.frames(5))
    np.testing.assert_array_equal(again.values, whole.values)
    assert again.detail == whole.detail


@pytest.mark.parametrize("by", ["energy-force", "taylor", "fisher", "activation"])
def test_every_criterion_goes_on_where_it_stood(graph, by, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    frames, file = toy.labelled(3), str(tmp_path / "sums")
    with pytest.raises(Interrupted):
        run(graph, frames, stop_after(2), by=by, checkpoint=file)
    seen = []
    again = run(graph, frames, lambda *args: seen.append(args[1]), by=by, checkpoint=file)
    assert seen == [3]
    np.testing.assert_array_equal(again.values, run(graph, frames, by=by).values)
    done = run(graph, frames, stop_after(1), by=by, checkpoint=file)
    np.testing.assert_array_equal(done.values, again.values)


def test_the_sums_are_not_written_at_every_structure(graph, tmp_path):
    file = tmp_path / "sums"
    with pytest.raises(Interrupted):
        run(graph, toy.frames(3), stop_after(2), checkpoint=str(file))
    assert not file.exists()
    run(graph, toy.frames(3), checkpoint=str(file))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sums"]


def test_a_checkpoint_of_another_run_is_refused(graph, tmp_path):
    file = str(tmp_path / "sums")
    run(graph, toy.frames(), checkpoint=file)
    other = toy.graph()
    next(iter(other.gm.parameters())).data.mul_(1.5)
    for changed, reason in (
        (lambda: run(graph, toy.frames(), seed=5, checkpoint=file), "seed was 4 and is 5"),
        (
            lambda: run(graph, toy.frames(), probes=3, checkpoint=file),
            r"score was score and is score\{probes=3\}",
        ),
        (lambda: run(graph, toy.frames(1), checkpoint=file), "the structures differ"),
        (lambda: run(graph, toy.labelled(), checkpoint=file), "the structures differ"),
        (lambda: run(other, toy.frames(), checkpoint=file), "the models differ"),
    ):
        with pytest.raises(UsageError, match=f"which is of another run: {reason}; delete it"):
            changed()


def test_a_file_that_is_no_checkpoint_is_refused(graph, tmp_path):
    file = tmp_path / "sums"
    file.write_text("nothing")
    with pytest.raises(UsageError, match="it is no checkpoint of a score: delete it, or name"):
        run(graph, toy.frames(), checkpoint=str(file))
    assert file.read_text() == "nothing"
    with pytest.raises(UsageError, match="there is no folder"):
        run(graph, toy.frames(), checkpoint=str(tmp_path / "no" / "sums"))
