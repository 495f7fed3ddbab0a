"""SevenNet: loading, tracing, and what the native class allows."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from irprune.data.batch import collate
from irprune.errors import LegalityError, ModelFileError, UsageError
from irprune.evaluation.potential import Potential
from irprune.families import family_named, family_of, load_model
from irprune.families.sevennet import SevenNetFamily
from irprune.families.sevennet.load import NAMES
from irprune.graph import EquivariantGraph
from tests.families.sevennet_models import (
    VARIANTS,
    Original,
    frames,
    sevennet_0,
    small,
    tiny_checkpoint,
)

torch.set_num_threads(1)


def check_exact(graph: EquivariantGraph, model: nn.Module, few: bool = False) -> None:
    """Atomic energies equal to the last bit, forces too, for batches and for structures alone."""
    assert graph.atomistic is not None
    structures = frames(graph.atomistic.atomic_numbers)
    module, reference = graph.module(torch.float64), Original(model)
    ours, theirs = (Potential(m, graph.atomistic) for m in (module, reference))
    sizes = set()
    some = (structures[1:], structures[1:2], structures[2:3])
    for chosen in some if few else (*some, structures, structures[:1], structures[3:]):
        batch = collate(chosen, graph.atomistic)
        sizes.add(batch.n_edges)
        a, b = ours.evaluate(batch), theirs.evaluate(batch)
        assert a.energies.dtype == torch.float64
        assert float((a.energies - b.energies).abs().max()) == 0.0
        assert a.forces is not None
        assert b.forces is not None
        assert float((a.forces - b.forces).abs().max()) <= 1e-13
    assert 0 in sizes
    assert len(sizes) >= (2 if few else 4)


def check_calculator(graph: EquivariantGraph, model: nn.Module, numbers: Sequence[int]) -> None:
    """Energy, forces and stress of sevenn's calculator, float32."""
    from sevenn.calculator import SevenNetCalculator

    assert graph.atomistic is not None
    calculator = SevenNetCalculator(model, file_type="model_instance", device="cpu")
    potential = Potential(graph.module(torch.float32), graph.atomistic)
    structures = frames(numbers)[:3]
    for atoms in structures:
        calculator.calculate(atoms)
        found = potential.evaluate(potential.collate([atoms]), forces=True, stress=True)
        assert found.forces is not None
        assert found.stress is not None
        want = calculator.results
        assert float(found.energy[0]) == pytest.approx(want["energy"], rel=1e-5)
        scale = max(np.abs(want["forces"]).max(), 0.1)
        assert np.abs(found.forces.numpy() - want["forces"]).max() / scale < 1e-5
        if atoms.pbc.all():
            voigt = found.stress[0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            assert np.abs(want["stress"]).max() > 1e-4
            np.testing.assert_allclose(voigt, want["stress"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_traced_equals_original(variant: str) -> None:
    made = small(variant)
    assert made.graph.blocks.barriers == []
    check_calculator(made.graph, made.model, (1, 6, 8))
    check_exact(made.graph, made.model.double())


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "7net-0",
        pytest.param("SevenNet-0_22May2024", marks=pytest.mark.slow),
        pytest.param("7net-l3i5", marks=pytest.mark.slow),
    ],
)
def test_traced_equals_original_for_pretrained_models(name: str) -> None:
    graph = sevennet_0() if name == "7net-0" else load_model(name)
    assert graph.blocks.barriers == []
    assert graph.atomistic is not None
    assert len(graph.atomistic.atomic_numbers) == 89
    assert graph.atomistic.inversion is False
    assert graph.atomistic.cutoff == 5.0
    layer = "128x0e+64x1e+32x2e" + ("+32x3e" if "l3i5" in name else "")
    assert graph.irreps_per_layer() == {
        "embedding": "128x0e",
        **{f"layer {i}": layer for i in range(4)},
        "layer 4": "128x0e",
    }
    model = pretrained(name)
    if name == "7net-0":
        assert graph.stats().params == pytest.approx(842_000, rel=0.01)
        check_calculator(graph, model, (8, 12, 14))
    check_exact(graph, model.double(), few=True)


def pretrained(name: str) -> nn.Module:
    """By sevenn's own loader, not irprune's."""
    from sevenn.util import model_from_checkpoint, pretrained_name_to_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model_from_checkpoint(pretrained_name_to_path(name))[0].eval()


def test_describes_the_atoms() -> None:
    graph = small("parity-nequip-bias").graph
    assert graph.atomistic is not None
    assert graph.atomistic.symbols == ("C", "H", "O")
    assert graph.atomistic.inversion is True
    assert graph.atomistic.dtype == "float32"
    assert graph.atomistic.name == "parity-nequip-bias"
    other = small("even-linear-xplor").graph.atomistic
    assert other is not None
    assert other.inversion is False


def test_knows_the_names_that_sevenn_resolves() -> None:
    from sevenn.util import pretrained_name_to_path

    family = SevenNetFamily()
    for name in NAMES:
        assert Path(pretrained_name_to_path(name)).is_file()
        assert family.claims(name)
    assert family.claims("7NET-0_11July2024")
    assert not family.claims("7net-1")
    assert not family.claims("mace")


def test_claims_checkpoints_only(tmp_path: Path) -> None:
    family = SevenNetFamily()
    torch.save(tiny_checkpoint(), tmp_path / "a.pth")
    assert family.claims(str(tmp_path / "a.pth"))
    torch.save({"model_state_dict": {}, "config": {}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("model_state_dict config _type_map")
    assert not family.claims(str(tmp_path / "other.pth"))
    assert not family.claims(str(tmp_path / "text.pth"))


class Bomb:
    """Unpickling it runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_runs_no_code_of_a_file_that_is_not_trusted(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    made = tiny_checkpoint()
    made["config"]["note"] = Bomb(trap)
    torch.save(made, tmp_path / "bomb.pth")
    with pytest.raises(ModelFileError, match=r"bomb\.pth .*--trust-pickle") as caught:
        load_model(tmp_path / "bomb.pth")
    assert "\n" not in str(caught.value)
    assert not trap.exists()
    load_model(tmp_path / "bomb.pth", trust=True)
    assert trap.exists()


def test_reads_numpy_values_without_trust(tmp_path: Path) -> None:
    made = tiny_checkpoint()
    made["config"]["shift"] = np.array([-1.0, -2.0, -3.0], dtype=np.float32)
    made["config"]["random"] = np.float64(3.0)
    made["config"]["device"] = torch.device("cuda")
    torch.save(made, tmp_path / "numpy.pth")
    assert load_model(tmp_path / "numpy.pth").labels["layer 0"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped", "lacks", "misfit", "text"])
def test_damaged_files_are_one_line_errors(kind: str, tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save(tiny_checkpoint(), good)
    bad = tmp_path / f"{kind}.pth"
    data = good.read_bytes()
    if kind == "truncated":
        bad.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        bad.write_bytes(b"")
    elif kind == "flipped":
        at = data.index(b"data.pkl") + 200
        bad.write_bytes(data[:at] + bytes(255 - b for b in data[at : at + 64]) + data[at + 64 :])
    elif kind == "text":
        bad.write_text("not a model")
    else:
        made = tiny_checkpoint()
        if kind == "lacks":
            made["config"].pop("cutoff_function")
        else:
            made["config"]["channel"] = 3
        torch.save(made, bad)
    for trust in (False, True):
        with pytest.raises(ModelFileError) as caught:
            load_model(bad, trust=trust)
        assert bad.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_says_what_an_unknown_file_is(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.save({"weights": torch.zeros(3)}, tmp_path / "plain.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name, said in [
        ("plain.pt", "unknown kind"),
        ("module.pt", "a pickle of objects of torch.nn"),
        ("script.pt", "TorchScript"),
        ("other.safetensors", "safetensors"),
    ]:
        with pytest.raises(ModelFileError, match=said) as caught:
            load_model(tmp_path / name)
        assert "mace, sevennet" in str(caught.value)
    with pytest.raises(UsageError, match="no model file nothing"):
        load_model("nothing.pth")
    with pytest.raises(UsageError, match="folder"):
        load_model(tmp_path)


def test_says_how_to_install_sevenn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sevenn", None)
    with pytest.raises(ModelFileError, match=r"pip install irprune\[sevennet\]"):
        load_model("7net-0")


def test_loads_in_float64(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(tiny_checkpoint(), path)
    graph = load_model(path, dtype="float64")
    assert {p.dtype for p in graph.gm.parameters()} == {torch.float64}
    with pytest.raises(UsageError, match="float16"):
        load_model(path, dtype="float16")


def test_families_are_named() -> None:
    assert family_named("sevennet").name == "sevennet"
    with pytest.raises(UsageError, match="known are"):
        family_named("nothing")


def test_a_graph_without_source_has_no_family() -> None:
    with pytest.raises(UsageError, match="target graph"):
        family_of(small("even-linear-xplor").graph.replace(source=None))


def ties_of(graph: EquivariantGraph) -> dict[str, dict[str, int]]:
    return {t.label: dict(t.members) for t in family_of(graph).legal(graph).ties}


def test_ties_of_the_native_class() -> None:
    graph = small("odd-width-lmax3-nequip").graph
    legal = family_of(graph).legal(graph)
    ties = ties_of(graph)
    assert legal.target == "native:sevennet"
    assert ties["layer 0 1o"] == {
        "0_equivariant_gate.gate:1o": 1,
        "1_self_interaction_1.linear:1o": 1,
    }
    assert ties["layer 1 0e"] == {
        "1_equivariant_gate.gate:0e": 2,
        "reduce_input_to_hidden.linear:0e": 1,
    }
    assert set(ties["radial hidden0"]) == {f"{t}_convolution.weight_nn.hidden0" for t in (0, 1)}
    assert "1_convolution.convolution.path" in legal.frozen
    assert [o.axes for o in legal.orders] == [("edge_embedding.spherical.sph",)]
    names = {a.name for a in graph.axes()}
    assert {n for t in ties.values() for n in t} <= names


def test_a_readout_network_leaves_the_last_layer_free() -> None:
    graph = small("manual-readout-fcn").graph
    tied = {n for t in ties_of(graph).values() for n in t}
    assert "2_equivariant_gate.gate:0e" not in tied
    assert "readout_FCN.fcn.hidden0" not in tied
    assert "readout_FCN.fcn.hidden0" in {a.name for a in graph.axes()}


def test_counts_for_all_layers_and_for_each() -> None:
    graph = small("odd-width-lmax3-nequip").graph
    family = family_of(graph)
    counts = family.counts_for(graph, "4x0e+2x1o")
    assert counts == {
        "onehot_to_feature_x.linear:0e": 4,
        "0_self_interaction_1.linear:0e": 4,
        "0_equivariant_gate.gate:0e": 4,
        "0_equivariant_gate.gate:1o": 2,
        "0_equivariant_gate.gate:2e": 0,
        "1_self_interaction_1.linear:0e": 4,
        "1_self_interaction_1.linear:1o": 2,
        "1_self_interaction_1.linear:2e": 0,
        "1_equivariant_gate.gate:0e": 4,
        "reduce_input_to_hidden.linear:0e": 2,
    }
    each = family.counts_for(graph, "3x0e | 5x0e+1x2e | 3x0e")
    assert each["onehot_to_feature_x.linear:0e"] == 3
    assert each["1_self_interaction_1.linear:2e"] == 1
    assert each["0_equivariant_gate.gate:1o"] == 0
    assert each["reduce_input_to_hidden.linear:0e"] == 1


@pytest.mark.parametrize(
    ("irreps", "said"),
    [
        ("6x0e", r"6x0e.*5x0e \(embedding\)"),
        ("4x0e+1x1e", r"no layer .* has 1e"),
        ("4x0e|4x0e+1x3o|4x0e", r"1x3o in layer 0, which has 5x0e\+5x1o\+5x2e"),
        ("4x0e|4x0e", r"2 parts.*3 separated by"),
        ("2x1o", "no 0e scalars"),
        ("1x0e", "at least 2x0e"),
        ("4x0", "cannot read irreps"),
    ],
)
def test_impossible_targets_name_the_layer(irreps: str, said: str) -> None:
    graph = small("odd-width-lmax3-nequip").graph
    with pytest.raises(UsageError, match=said):
        family_of(graph).counts_for(graph, irreps)


def test_a_graph_that_is_no_sevennet_model_is_refused() -> None:
    graph = small("even-linear-xplor").graph
    gm = copy.deepcopy(graph.gm)
    for node in gm.graph.nodes:
        if str(node.target) == "model.0_equivariant_gate.gate":
            node.target = "model.1_equivariant_gate.gate"
    broken = graph.replace(gm=gm)
    with pytest.raises(LegalityError, match="numbered from 0"):
        family_of(graph).legal(broken)


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(tiny_checkpoint(), tmp_path / "7net-0")
    monkeypatch.chdir(tmp_path)
    graph = load_model("7net-0")
    assert graph.atomistic is not None
    assert graph.atomistic.symbols == ("C", "H", "O")
