"""docs/examples/saturation: installed on its own, its tests run, its pass is known by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from e3nn import o3
from torch import nn

import irprune

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "saturation"

pytestmark = pytest.mark.slow


def run(*command, cwd, site):
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the example is installed into, and nothing else."""
    import shutil

    source = tmp_path_factory.mktemp("source") / "saturation"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build"))
    target = tmp_path_factory.mktemp("site")
    command = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*command, "--target", str(target), str(source), cwd=source, site=target)
    return target


def test_its_own_tests_pass(site):
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "tests"]
    out = run(*command, "--rootdir", ".", "-c", os.devnull, cwd=EXAMPLE, site=site)
    assert "2 passed" in out


def test_op_and_pass_are_listed(site, tmp_path):
    ops = json.loads(run("-m", "irprune.cli.main", "ops", "--json", cwd=tmp_path, site=site))
    assert "saturation" in {o["name"] for o in ops["ops"]}
    passes = json.loads(run("-m", "irprune.cli.main", "passes", "--json", cwd=tmp_path, site=site))
    assert "round-weights" in {p["name"] for p in passes["passes"]}


def test_the_pass_runs_from_the_command_line(site, tmp_path):
    torch.manual_seed(0)
    layer = nn.Sequential(o3.Linear("2x0e", "4x0e"), o3.Linear("4x0e", "1x0e"))
    irprune.trace(layer.double(), {"input": "2x0e"}).save(str(tmp_path / "model.irp"))
    command = ["run", "-p", "round-weights{bits=3}", "model.irp", "-o", "out.irp", "--json"]
    run("-m", "irprune.cli.main", *command, cwd=tmp_path, site=site)
    for weight in irprune.load(str(tmp_path / "out.irp")).gm.parameters():
        mantissa, _ = torch.frexp(weight)
        assert torch.equal((mantissa * 8).round(), mantissa * 8)
