"""benchmarks/gpu: shapes of layers, and its check of kernels, in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu import stages
from benchmarks.gpu.shapes import LAYERS, pruned, spec_of


@pytest.mark.parametrize(
    ("mul", "keep", "shape", "left"),
    [
        (128, 1.0, "odd", 128),
        (128, 0.75, "aligned", 96),
        (64, 0.75, "aligned", 32),
        (32, 0.25, "aligned", 32),
        (128, 0.5, "odd", 63),
        (3, 0.25, "odd", 1),
    ],
)
def test_what_is_left_of_channels(mul, keep, shape, left):
    assert pruned(mul, keep, shape) == left


def test_shapes_are_those_of_the_models(unscripted):
    """SevenNet-0: weights of a hidden layer as its radial network makes them."""
    by_name = {layer.name: layer for layer in LAYERS}
    assert spec_of(by_name["sevennet-0"]).n_weights == 3 * 128 + 6 * 64 + 6 * 32
    small = spec_of(by_name["mace-small"])
    assert (small.dims, small.n_weights) == ((128, 16, 128 * 16), 128 * 4)
    assert spec_of(by_name["mace-small"], 0.5, "odd").n_weights == 63 * 4


def test_cases():
    found = list(stages.cases(["mace-small"], (1.0, 0.5)))
    assert [(c[1], c[2]) for c in found] == [(1.0, "aligned"), (0.5, "aligned"), (0.5, "odd")]


@pytest.mark.slow
def test_the_check_runs_and_can_fail(repo, tmp_path):
    code = (
        "import sys\nfrom benchmarks.gpu import correctness, run\n"
        "correctness.TOLERANCES = {'float64': float(sys.argv[1])}\n"
        "raise SystemExit(run.main(sys.argv[2:]))"
    )
    given = ["-o", str(tmp_path), "--device", "cpu", "--stages", "correctness",
             "--layers", "mace-small", "--keep", "0.25",
             "--dtypes", "float64", "--nodes", "2", "--edges", "2"]  # fmt: skip
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    for tolerance, expected in (("1e-11", 0), ("0", 1)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, tolerance, *given],
            cwd=repo, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == expected, done.stderr
        found = json.loads((tmp_path / "correctness.json").read_text())
        assert [r["ok"] for r in found["results"]] == [expected == 0] * 4
        assert {k.split()[1] for r in found["results"] for k in r["kernels"]} == {"csr", "atomic"}
