"""MACE files: which are claimed, which are loaded, and what the errors say."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from irprune.errors import ModelFileError
from irprune.families import load_model
from irprune.families.mace import MaceFamily
from irprune.families.mace.load import wrap
from tests.families import mace_models
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture

FAMILY = MaceFamily()


@pytest.fixture(scope="module")
def model():
    return mace_models.build("4x0e", correlation=2)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mace") / "small.model"
    torch.save(model, path)
    return path


def one_line(error: pytest.ExceptionInfo[ModelFileError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_claims_looks_at_the_pickle_and_runs_none_of_it(file, tmp_path):
    assert FAMILY.claims(str(file))
    assert not FAMILY.claims(str(tmp_path / "absent.model"))
    other = tmp_path / "other.pt"
    torch.save({"model_state_dict": {"x": torch.zeros(2)}}, other)
    assert not FAMILY.claims(str(other))
    text = tmp_path / "text.model"
    text.write_text("mace.modules.models ScaleShiftMACE")
    assert not FAMILY.claims(str(text))


def test_untrusted_is_declined_and_says_how_to_trust(file):
    with pytest.raises(ModelFileError) as error:
        FAMILY.load(str(file), trust=False)
    assert "--trust-pickle" in one_line(error)
    assert "trust=True" in str(error.value)


def test_untrusted_runs_no_code(tmp_path, monkeypatch):
    """The root object is looked up, never called."""
    seen = []
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.append(a))
    path = tmp_path / "evil.model"
    model = mace_models.build("4x0e", correlation=1)
    torch.save(model, path)
    with pytest.raises(ModelFileError):
        FAMILY.load(str(path), trust=False)
    assert seen == []


def test_loads_with_trust(file, model):
    loaded = FAMILY.load(str(file), trust=True)
    about = loaded.atomistic
    assert about.atomic_numbers == (1, 6, 8)
    assert about.cutoff == 4.0
    assert about.heads == ("Default",)
    assert about.dtype == "float64"
    assert about.name == "small"
    assert about.inversion
    assert not loaded.module.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value), name


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_truncated(file, tmp_path, size):
    broken = tmp_path / "broken.model"
    broken.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelFileError) as error:
        load_model(broken, trust=True)
    assert "broken.model" in one_line(error)


def test_damaged_inside(file, tmp_path):
    data = bytearray(file.read_bytes())
    at = data.find(b"ScaleShiftMACE")
    data[at : at + 14] = b"ScaleShiftNONE"
    broken = tmp_path / "broken.model"
    broken.write_bytes(bytes(data))
    with pytest.raises(ModelFileError) as error:
        FAMILY.load(str(broken), trust=True)
    assert "ScaleShiftNONE" in one_line(error)


def test_a_pickle_that_fails_is_one_line(file, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ModelFileError) as error:
        FAMILY.load(str(file), trust=True)
    assert "first" in one_line(error)


def test_other_mace_classes_are_declined_by_name(tmp_path):
    block = mace_models.modules.LinearNodeEmbeddingBlock(
        mace_models.o3.Irreps("3x0e"), mace_models.o3.Irreps("4x0e")
    )
    path = tmp_path / "block.model"
    torch.save(block, path)
    assert FAMILY.claims(str(path))
    with pytest.raises(ModelFileError, match=r"LinearNodeEmbeddingBlock.*ScaleShiftMACE"):
        FAMILY.load(str(path), trust=True)


def test_declines_what_it_cannot_trace(model):
    with_embedding = copy.deepcopy(model)
    with_embedding.joint_embedding = torch.nn.Identity()
    with pytest.raises(ModelFileError, match="joint_embedding"):
        wrap(with_embedding, "x.model")
    for_lammps = copy.deepcopy(model)
    for_lammps.lammps_mliap = True
    with pytest.raises(ModelFileError, match="LAMMPS"):
        wrap(for_lammps, "x.model")


def test_without_mace_the_error_says_what_to_install(file):
    code = f"""
import sys
sys.modules["mace"] = None
from irprune.errors import ModelFileError
from irprune.families.mace import MaceFamily
assert MaceFamily().claims({str(file)!r})
try:
    MaceFamily().load({str(file)!r}, trust=True)
except ModelFileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install irprune[mace]" in done.stdout


def test_importing_mace_leaves_stdout_and_safe_loading_alone():
    code = """
import os
from irprune.families.mace.library import import_mace
import_mace()
print(os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"))
"""
    environment = {k: v for k, v in os.environ.items() if "WEIGHTS_ONLY" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "None\n"
    assert "detected" not in done.stderr


def test_saving_round_trip_is_a_whole_module(model):
    """What the family expects of a .model file is what mace writes."""
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    assert type(torch.load(stream, weights_only=False)) is type(model)
