"""optimize on the families: exact in float64 on every member, and the real models end to end."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk

import irprune
from irprune import api
from irprune.cli.job import left
from irprune.families.mace import symmetric
from irprune.kernels.cpu import ops as compiled
from irprune.verification.ladder import claim_rung
from tests.families import sevennet_models
from tests.families.test_exact_members import BUILT_MACE, REAL, built_mace, rattled, real_graph

FAST = str(api.optimize_pipeline(verify=False))


def assert_optimized(graph, tolerance=1e-9):
    """Exact, in fewer steps, through compiled kernels; what stayed is returned."""
    made, report = api.run_reported(FAST, graph)
    frames = rattled(graph)
    before = compiled.CALLS["convolution_backward"]
    check = claim_rung(made, frames)
    assert check.value <= tolerance, str(check)
    assert compiled.CALLS["convolution_backward"] > before
    assert made.stats().flops_per_atom < graph.stats().flops_per_atom
    return made, left(report.results)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_MACE)
def test_built_mace(name):
    made, stayed = assert_optimized(built_mace(name))
    assert "fuse-conv" not in stayed
    assert "lower-contraction" not in stayed
    assert "SymmetricContraction" not in str(made.gm)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(sevennet_models.VARIANTS))
def test_built_sevennet(name):
    graph = sevennet_models.small(name).graph
    graph = graph.replace(gm=graph.module(torch.float64))
    _, stayed = assert_optimized(graph)
    assert "fuse-conv" not in stayed


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real(name, shared):
    graph = real_graph(REAL[name], shared)
    made, stayed = assert_optimized(graph)
    assert stayed == {}
    assert compiled.CALLS["convolution"] > 0
    if name == "mace-mp-0-small":
        assert graph.stats().params == 3_847_696
        assert made.stats().params == 2_042_857


@pytest.mark.slow
@pytest.mark.parametrize("name", ["omat", "plain", "heads", "bias"])
@pytest.mark.parametrize("elements", [("O",), ("C", "O")])
def test_some_elements(name, elements):
    """Elements that are no first part of the model's, with pair repulsion and several heads."""
    graph = built_mace(name)
    made = irprune.optimize(graph, elements=elements, verify=False)
    frames = api.generated_frames(made, 3)
    assert claim_rung(made, frames).value <= 1e-9


@pytest.mark.real
@pytest.mark.slow
def test_five_elements_of_mace_mp(shared):
    graph = real_graph(REAL["mace-mp-0-small"], shared)
    made = irprune.optimize(graph, elements=("H", "C", "N", "O", "Si"), verify=False)
    assert made.stats().params < 400_000
    assert made.atomistic.symbols == ("H", "C", "N", "O", "Si")
    assert claim_rung(made, rattled(graph)).value <= 1e-9
    from irprune.errors import DataError

    with pytest.raises(DataError, match="Ge"):
        irprune.calculator(made).calculate(bulk("Ge"))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["7net-0", "mace-mp-0-small"])
def test_forces_in_float32(name, shared):
    """Forces to 5e-6 of the largest, against the family's own calculator in float32."""
    from benchmarks.problems import CRYSTALS, MODELS
    from benchmarks.worker import make_calculator

    model = MODELS[name]
    atoms = CRYSTALS[model.crystal].supercell(64)
    found = {}
    for dtype in ("float32", "float64"):
        graph = irprune.load(model.location(), trust=True, dtype=dtype)
        atoms.calc = irprune.calculator(irprune.optimize(graph, verify=False))
        found[dtype] = atoms.get_forces()
    atoms.calc = make_calculator(model.family, model.location())
    want = found["float64"]
    theirs = atoms.get_forces()
    ours, stock = (np.abs(f - want).max() for f in (found["float32"], theirs))
    assert np.abs(found["float32"] - theirs).max() <= 5e-6 * np.abs(theirs).max()
    for one in (ours, stock):  # from float64 both are as far as positions in float32 put them
        assert one <= 1e-5 * np.abs(want).max()


@pytest.mark.real
@pytest.mark.slow
def test_prune_then_optimize(shared):
    graph = real_graph(REAL["7net-0"], shared)
    pruned = irprune.run("score{by=magnitude},select{keep=0.5,scope=axis},slice,rewrite-tp", graph)
    made = irprune.run(FAST, pruned)
    assert claim_rung(made, rattled(graph)).value <= 1e-9
    assert made.stats().params < pruned.stats().params * 1.1


@pytest.mark.real
@pytest.mark.slow
def test_the_command(tmp_path):
    out = tmp_path / "fast.irp"
    command = [sys.executable, "-m", "irprune.cli.main", "optimize", "7net-0", "-o", str(out)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tier"] == "graph"
    assert found["left"] == {}
    assert {k: len(v) for k, v in found["kernels"].items()} == {
        "cpu": 16,  # five convolutions, eleven linear maps
        "reference (cpu: of scalars alone, torch's own matrix product is faster)": 4,
    }
    names = [c["name"] for c in found["checks"]]
    assert {"claim", "rotation", "reload-forces-float32", "reload-forces-float64"} <= set(names)
    assert all(c["ok"] for c in found["checks"])
    assert len(found["kernel_plan"]["nodes"]) == 20
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.05, seed=1)
    atoms.calc = irprune.calculator(out)
    assert np.isfinite(atoms.get_stress()).all()


def test_the_polynomial_of_a_contraction(golden):
    lowered = irprune.run("symmetrize-contraction,lower-contraction", built_mace("single"))
    (spec,) = [m.spec for m in lowered.gm.modules() if type(m).__name__ == "ElementPolynomial"]
    golden("specs/mace-single.txt", str(spec))


@pytest.mark.parametrize("pass_", ["symmetrize-contraction", "lower-contraction"])
def test_a_wrong_projection_is_found(pass_, monkeypatch):
    """A weight of the new basis that is off by a thousandth."""
    graph = built_mace("single")
    real = symmetric.reduce if pass_.startswith("sym") else symmetric.polynomial

    def wrong(*arguments):
        found = real(*arguments)
        if isinstance(found, tuple):
            found[1][:, -1] *= 1 + 1e-3
        else:
            found.w[3][:, -1] *= 1 + 1e-3
        return found

    monkeypatch.setattr(symmetric, real.__name__, wrong)
    made = irprune.run(pass_, graph)
    assert not claim_rung(made, rattled(graph)).ok


def test_symmetrized_contractions_stay_in_the_family(tmp_path):
    """The class with reduced contractions in it: surgery; the native class where it has the basis."""
    from irprune.export import export

    graph = irprune.run("symmetrize-contraction", built_mace("mp"))
    assert graph.stats().params < built_mace("mp").stats().params
    done = export(graph, tmp_path / "reduced.model", "surgery")
    assert done.tier == "surgery"
    assert all(c.ok for c in done.checks)
    done = export(graph, tmp_path / "native.model", "native:mace")
    assert all(c.ok for c in done.checks)
