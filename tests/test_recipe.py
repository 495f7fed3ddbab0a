"""Recipes: the same bytes again, what differs by name, and files that are no recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from irprune.cli import main as cli
from irprune.errors import UsageError
from irprune.recipe import Recipe, differences, sha256
from irprune.versions import versions
from tests.passes.golden_networks import network

PIPELINE = "cse,fold-onehot,fuse-conv,fuse-linear"

RECORD = """
import json, sys
import irprune
from irprune.export import export
from irprune.recipe import recipe_of
folder, pipeline = sys.argv[1:]
model, out = folder + "/m.irp", folder + "/out.irp"
graph = irprune.load(model)
export(irprune.run(pipeline, graph, seed=3), out, verify=False)
options = dict(seed=3, target="auto", dtype=None, data=None, output=out)
print(json.dumps({"recipe": recipe_of(model, graph, pipeline, **options).to_json()}))
"""
"""What the verbs do, without the reload of what was written."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, unscripted):
    """A folder with a model, what a pipeline made of it, and the JSON of the run."""
    folder = tmp_path_factory.mktemp("recipe")
    network("small").save(str(folder / "m.irp"))
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(folder), PIPELINE],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "run.json").write_text(done.stdout)
    return folder


def answer(capsys, *args):
    code = cli.run([*map(str, args), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def changed(folder, **changes):
    found = json.loads((folder / "run.json").read_text())["recipe"]
    return {**found, **changes}


def test_what_a_recipe_holds(recorded):
    found = Recipe.read(recorded / "run.json")
    assert found.pipeline == PIPELINE
    assert found.seed == 3
    assert found.model_sha256 == sha256(recorded / "m.irp")
    assert found.output_sha256 == sha256(recorded / "out.irp")
    assert found.versions == versions()
    assert (found.data, found.data_sha256) == (None, None)
    assert Recipe.from_json(json.loads(json.dumps(found.to_json())), "x") == found


def test_the_same_bytes_in_another_process(recorded, tmp_path, capsys):
    """Another process, with another seed of hashes, and another name of the output."""
    code, found, _ = answer(capsys, "rerun", recorded / "run.json", "-o", tmp_path / "again.irp")
    assert (code, found["same"]) == (0, True)
    assert "model" not in found["differs"]
    assert (tmp_path / "again.irp").read_bytes() == (recorded / "out.irp").read_bytes()
    assert cli.run(["rerun", str(recorded / "run.json")]) == 0
    assert "the same bytes: sha256 " in capsys.readouterr().out


def test_what_differs_is_named(recorded, tmp_path, capsys):
    other = tmp_path / "other.irp"
    network("small").replace(edges_per_atom=17.0).save(str(other))
    recipe = changed(recorded, versions={**versions(), "torch": "1.0", "gone": "2"})
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    code, found, err = answer(capsys, "rerun", tmp_path / "r.json", "--model", other)
    assert (code, found["same"]) == (1, False)
    assert set(found["differs"]) >= {"model", "version of torch", "version of gone"}
    assert found["differs"]["version of torch"] == {
        "recorded": "1.0", "here": versions()["torch"],
    }  # fmt: skip
    assert found["differs"]["version of gone"] == {"recorded": "2", "here": "none"}
    assert f"model differs: {sha256(recorded / 'm.irp')} recorded, {sha256(other)} here" in err


def test_other_bytes_without_a_cause(recorded, tmp_path, capsys):
    recipe = changed(recorded, output_sha256="0" * 64)
    recipe["machine"]["threads"] = "1"
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    assert cli.run(["rerun", str(tmp_path / "r.json"), "-o", str(tmp_path / "o.irp")]) == 1
    out = capsys.readouterr().out
    assert "OTHER BYTES" in out
    assert "no input, no version and nothing of the machine that is recorded differs" in out
    assert (tmp_path / "o.irp").exists()


def test_data_is_hashed(recorded, tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")
    recipe = Recipe.from_json(changed(recorded, data="a.xyz", data_sha256="1" * 64), "r")
    found = differences(recipe, recorded / "m.irp", tmp_path / "a.xyz")
    assert found["data"] == ("1" * 64, sha256(tmp_path / "a.xyz"))


WRONG = {
    "not json": ("{", "is not JSON: "),
    "a list": ("[]", "is no recipe: expected an object; give what irprune run, prune or optimize"),
    "another file": ('{"params": 3}', "is no recipe of version 1: recipe_version is None; give"),
    "newer": ('{"recipe_version": 2}', "is no recipe of version 1: recipe_version is 2; give"),
    "empty": ('{"recipe_version": 1}', "is no recipe: it lacks model, model_file, model_sha256, "),
}


@pytest.mark.parametrize("what", WRONG)
def test_no_recipe(what, tmp_path):
    content, part = WRONG[what]
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        Recipe.read(path)
    assert part in str(error.value)


def test_a_value_of_another_type(recorded):
    with pytest.raises(UsageError) as error:
        Recipe.from_json(changed(recorded, seed="3"), "r.json")
    assert str(error.value) == "r.json is no recipe: seed is '3', expected int"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"output": None, "output_sha256": None}, "records a run that wrote no file"),
        ({"pipeline": "export{path=x.irp}"}, "its pipeline exports by itself"),
        ({"machine": {}}, "machine.threads is '', expected a number"),
        ({"model": "gone.irp"}, "there is no model file gone.irp"),
    ],
)
def test_what_cannot_be_run_again(changes, part, recorded, tmp_path, capsys):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(changed(recorded, **changes)))
    assert cli.run(["rerun", str(path)]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_sevennet(tmp_path, capsys):
    """A file of the family, by its own writer, from the command line to the end."""
    from tests.families import sevennet_models

    model, out = sevennet_models.small("even-linear-xplor").path, tmp_path / "small.pth"
    args = ["prune", model, "--keep", "0.5", "--criterion", "magnitude", "--no-verify", "-o", out]
    code, found, err = answer(capsys, *args)
    assert code == 0, err
    (tmp_path / "run.json").write_text(json.dumps(found))
    again = tmp_path / "other-name.bin"
    code, found, _ = answer(capsys, "rerun", tmp_path / "run.json", "-o", again)
    assert (code, found["same"], found["differs"]) == (0, True, {})
    assert again.read_bytes() == out.read_bytes()


def process(seed, *args):
    """The command line in a process of its own, whose strings hash by a seed: what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "irprune.cli.main", *map(str, args), "--trust-pickle", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.real
@pytest.mark.slow
def test_a_checkpoint_of_mace(shared, tmp_path):
    """A pickle of a whole module, from the command line: TorchScript counts names per process."""
    model, out = shared / "checkpoints" / "mace_GeSbTe_L1.model", tmp_path / "small.model"
    args = ["prune", model, "--keep", "0.5", "--criterion", "magnitude", "--no-verify"]
    said = process(1, *args, "--target", "surgery", "-o", out)
    (tmp_path / "run.json").write_text(said)
    again = tmp_path / "again.model"
    assert json.loads(process(2, "rerun", tmp_path / "run.json", "-o", again))["same"]
    assert again.read_bytes() == out.read_bytes()
