"""The pass compile, and the command line around it."""

from __future__ import annotations

import json

import pytest
from ase.build import molecule
from ase.io import write

import irprune
from irprune import api
from irprune.cli import main as cli
from irprune.errors import LegalityError, UsageError
from tests.evaluation.test_compiled import EAGER, optimized
from tests.families import sevennet_models

PASS = "compile{backend=eager}"


def test_the_pass_compiles_once_and_counts():
    graph = optimized("single").replace(compiled=None)
    made, report = api.run_reported(PASS, graph)
    assert made.compiled == EAGER
    assert made.gm is graph.gm
    found = report.results["compile"]
    assert (found["backend"], found["graphs"], found["recompilations"]) == ("eager", 1, 0)


def test_verify_compares_what_is_compiled():
    graph = optimized("single").replace(compiled=None)
    _, report = api.run_reported(f"{PASS},verify{{structures=2}}", graph)
    checks = {c.name: c for c in report.results["verify"]}
    assert checks["compiled"].ok
    assert "1 graph, 0 recompilations" in checks["compiled"].detail


def test_the_pipeline_of_optimize():
    assert str(api.optimize_pipeline(compile=True)).endswith(",select-kernels,compile,verify")
    assert "compile" not in str(api.optimize_pipeline())


def test_it_declines():
    with pytest.raises(UsageError, match="no backend 'nvfuser'"):
        irprune.run("compile{backend=nvfuser}", optimized("single"))
    stock = sevennet_models.small("even-linear-xplor").graph
    with pytest.raises(LegalityError, match=r"node \w+ .*run the exact passes before"):
        irprune.run(PASS, stock)


def test_the_command_line(tmp_path, capsys):
    model, made, data = (str(tmp_path / n) for n in ("a.irp", "b.irp", "c.xyz"))
    optimized("single").save(made)
    optimized("single").replace(compiled=None).save(model)
    frames = [molecule("CH3CHO"), molecule("CH3OH")]
    write(data, frames)

    def run(*args):
        assert cli.run([*args, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    found = run("run", model, "-p", PASS)
    assert found["compiled"]["graphs"] == 1
    assert found["compiled"]["recompilations"] == 0
    assert run("show", made)["compiled"] == {"backend": "aot_eager"}
    assert run("show", model)["compiled"] is None
    found = run("evaluate", made, "--data", data, "--reference", model)
    assert found["compiled"]["graphs"] == 1
    assert found["difference"]["force_max_ev_per_a"] < 1e-10
    found = run("verify", made, "--structures", "1", "--no-reload")
    assert "compiled" in [c["name"] for c in found["checks"]]
    assert cli.run(["profile", made, "--data", data, "--repeats", "1"]) == 0
    assert "compiled: 1 graph, 0 recompilations (aot_eager)" in capsys.readouterr().out
