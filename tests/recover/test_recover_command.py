"""The verb recover: killed and resumed, in several processes, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ase.io import read, write

import irprune
from irprune import api
from irprune.cli.main import run
from tests.passes import toy

STEPS = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recover")
    teacher = toy.graph()
    teacher.save(str(folder / "teacher.irp"))
    student = irprune.run("score{by=random},select{keep=0.6},slice", teacher, seed=1)
    student.save(str(folder / "student.irp"))
    write(folder / "data.extxyz", api.generated_frames(teacher, 12))
    return folder


def arguments(files: Path, *more: str) -> list[str]:
    return [
        "recover", str(files / "student.irp"), "--teacher", str(files / "teacher.irp"),
        "--data", str(files / "data.extxyz"), "--steps", str(STEPS), "--json", *more,
    ]  # fmt: skip


def start(args, *, launcher=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *launcher, "-m", "irprune.cli.main", *args]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    return out


def losses(folder: Path, kind: str = "step") -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r["loss"] for r in rows if r["kind"] == kind]


def parameters(path: Path) -> torch.Tensor:
    gm = irprune.load(path).gm
    return torch.cat([p.detach().reshape(-1) for p in gm.parameters()])


@pytest.mark.slow
def test_a_killed_run_ends_where_an_unbroken_one_does(files, tmp_path):
    extra = ("--batch", "3", "--valid", "0.25", "--save-every", "4", "--target", "graph")
    whole = finish(start(arguments(files, *extra, "-o", str(tmp_path / "whole.irp"))))
    folder = tmp_path / "run"
    extra = (*extra, "--run-dir", str(folder), "-o", str(tmp_path / "broken.irp"))
    process = start(arguments(files, *extra))
    log = folder / "log.jsonl"
    until = time.monotonic() + 200
    while time.monotonic() < until and not (log.exists() and len(log.read_text()) > 2500):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "broken.irp").exists()
    done = len(losses(folder))
    assert 4 < done < STEPS
    resumed = json.loads(finish(start(arguments(files, *extra, "--resume"))))
    unbroken = json.loads(whole)
    for key in ("steps", "best", "n_valid", "stopped", "irreps", "tier"):
        assert resumed[key] == unbroken[key]
    for key in ("history", "validation"):
        assert resumed[key] == unbroken[key]
    assert torch.equal(parameters(tmp_path / "broken.irp"), parameters(tmp_path / "whole.irp"))
    assert losses(folder) == [r["loss"] for r in unbroken["history"]]


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(files, tmp_path):
    one = tmp_path / "one"
    finish(start(arguments(files, "--batch", "4", "--valid", "0.25", "--run-dir", str(one))))
    two = tmp_path / "two"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    args = arguments(files, "--batch", "2", "--valid", "0.25", "--run-dir", str(two))
    out = finish(start(args, launcher=launcher))
    assert json.loads(out)["steps"] == STEPS
    for kind in ("step", "validation"):
        assert losses(two, kind) == pytest.approx(losses(one, kind), rel=1e-9)
        assert len(losses(two, kind)) > 10
    weights = [torch.load(d / "state.pt", weights_only=True)["parameters"] for d in (one, two)]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-9)
    state = torch.load(two / "state.pt", weights_only=True)
    rows = [json.loads(line) for line in (two / "log.jsonl").read_text().splitlines()]
    state["step"] = next(r["step"] for r in rows if r["kind"] == "validation") + 1
    torch.save(state, two / "state.pt")  # as one that was killed right after its first epoch
    again = json.loads(finish(start([*args, "--resume", "--deadline", "1e-9"], launcher=launcher)))
    assert (again["steps"], again["stopped"]) == (state["step"], "deadline")
    assert len(again["validation"]) == 1


def test_a_run_without_a_step(files, capsys):
    """Its table had no columns, and the title stood there letter by letter."""
    args = [a for a in arguments(files) if a != "--json"]
    assert run([*args, "--steps", "0"]) == 2
    assert "recover: values that make no sense: steps=0\n" in capsys.readouterr().err
    assert run([*args, "--deadline", "1e-9"]) == 0
    said = capsys.readouterr().out
    assert said == "0 steps (deadline), 12 structures, 5 left out, 0 held out\n"


def test_what_is_held_out_is_not_learned_from(files, tmp_path, capsys):
    frames = read(files / "data.extxyz", ":")
    write(tmp_path / "some.extxyz", [api.generated_frames(toy.graph(), 1, seed=9)[0], *frames[3:5]])
    args = arguments(files, "--target", "graph", "--valid-data", str(tmp_path / "some.extxyz"))
    assert run(args) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 structures of" in said
    assert "are among those to learn from (the first is number 1)" in said
    assert run([*args, "--valid", "0.1"]) == 2
    assert "give --valid-data FILE or --valid SHARE, not both" in capsys.readouterr().err
    assert run(arguments(files, "--group", "id")) == 2
    assert "--group says what --valid holds out together" in capsys.readouterr().err
