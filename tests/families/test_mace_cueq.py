"""MACE models that ``enable_cueq`` or mace's converter gave layers of cuEquivariance."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import irprune
from irprune.cli import main as cli
from irprune.errors import ModelFileError
from irprune.families import load_model
from irprune.families.mace import cueq
from irprune.families.mace.load import wrap
from irprune.verification.ladder import compare_on_examples, masked_sliced_rung
from tests.families import mace_models
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture

pytest.importorskip("cuequivariance_torch")
PRUNE = "score{by=magnitude},select{keep=0.5,scope=axis},slice"


def converted(model, layout="ir_mul"):
    """What mace's own converter makes of a model, on the CPU."""
    before = torch.get_default_dtype()
    try:
        run = mace_models.import_mace("mace.cli.convert_e3nn_cueq").run
        return run(copy.deepcopy(model), layout=layout).eval()
    finally:
        torch.set_default_dtype(before)


def saved(model, path) -> Path:
    torch.save(model, path)
    return path


@pytest.fixture(scope="module")
def model():
    return mace_models.build("4x0e+4x1o", correlation=2)


@pytest.fixture(scope="module")
def accelerated(model):
    return converted(model)


def check_pruning(plain, other):
    """Both checkpoints are pruned to the same blocks, exactly, and to the same function."""
    graphs = [irprune.run(PRUNE, load_model(path, trust=True)) for path in (plain, other)]
    for graph in graphs:
        check = masked_sliced_rung(graph, None)
        assert check.value <= 1e-10, check
    a, b = (graph.origin.keep for graph in graphs)
    assert not a.all()
    assert np.array_equal(a, b)
    return max(
        compare_on_examples(graphs[0], *(g.module(torch.float64) for g in graphs), grow)
        for grow in (0, 3)
    )


@pytest.mark.parametrize("layout", ["ir_mul", pytest.param("mul_ir", marks=pytest.mark.slow)])
def test_a_converted_checkpoint_is_loaded_and_pruned_as_the_original(
    model, layout, tmp_path, capsys
):
    plain = saved(model, tmp_path / "plain.model")
    other = saved(converted(model, layout), tmp_path / "cueq.model")
    assert check_pruning(plain, other) < 1e-10
    said = capsys.readouterr().err
    assert (
        f"irprune: {other}: its layers of cuEquivariance were converted to e3nn layers by" in said
    )
    assert f"irprune: {plain}" not in said


@pytest.mark.slow
def test_contractions_with_reduced_bases(tmp_path):
    model = mace_models.build("4x0e", use_reduced_cg=True)
    plain = saved(model, tmp_path / "plain.model")
    other = saved(converted(model), tmp_path / "cueq.model")
    assert check_pruning(plain, other) < 1e-10


def test_the_dtype_of_torch_stays(accelerated):
    assert torch.get_default_dtype() is torch.float32
    loaded = wrap(copy.deepcopy(accelerated), "x.model")
    assert torch.get_default_dtype() is torch.float32
    assert not cueq.has_cueq(loaded.module)
    assert len(loaded.notes) == 1
    assert loaded.config == {"reload_dtypes": ("float64",)}


@pytest.mark.slow
def test_verify_compares_with_the_layers_of_the_file(accelerated, tmp_path, capsys):
    """In the precision of the file: mace's calculator does not run them in another."""
    path = saved(accelerated, tmp_path / "cueq.model")
    command = ("verify", str(path), "--trust-pickle", "--structures", "2", "--json")
    assert cli.run(command) == 0
    checks = {c["name"] for c in json.loads(capsys.readouterr().out)["checks"]}
    assert {n for n in checks if n.startswith("reload-")} == {
        f"reload-{what}-float64" for what in ("energy", "forces", "stress")
    }


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_the_converter_does_not_take_is_declined(accelerated):
    other = copy.deepcopy(accelerated)
    other.__class__ = mace_models.modules.MACE
    with pytest.raises(ModelFileError) as error:
        wrap(other, "x.model")
    assert one_line(error).startswith(
        "x.model: has layers of cuEquivariance, which mace-torch's converter to e3nn layers (python"
        " -m mace.cli.convert_cueq_e3nn) does not take: "
    )


def test_a_model_that_does_not_run_here_is_declined(accelerated):
    """As one whose convolutions are fused for CUDA."""
    other = copy.deepcopy(accelerated)
    other.interactions[0].conv_fusion = True
    with pytest.raises(ModelFileError, match=r"do not run on this machine.*convert_cueq_e3nn"):
        wrap(other, "x.model")


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_a_conversion_that_changes_energies_is_found(factor, accelerated, monkeypatch):
    right = cueq._convert

    def wrong(source):
        made = right(source)
        with torch.no_grad():
            made.products[1].linear.weight *= factor
        return made

    monkeypatch.setattr(cueq, "_convert", wrong)
    with pytest.raises(
        ModelFileError, match=r"give other energies and forces \(relative difference"
    ):
        wrap(copy.deepcopy(accelerated), "x.model")


@pytest.mark.real
@pytest.mark.slow
def test_mace_mp_0_small(shared, tmp_path):
    plain = shared / "checkpoints" / "mace_mp_0_small.model"
    source = torch.load(plain, map_location="cpu", weights_only=False)
    other = saved(converted(source), tmp_path / "cueq.model")
    assert check_pruning(plain, other) < 1e-4
