"""SevenNet: native export, and the reload in a fresh process."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from irprune.errors import CheckFailed, DataError, ExactnessError, LegalityError
from irprune.evaluation.potential import Potential
from irprune.families import family_of, load_model
from irprune.families.reload import Values, compare, in_memory, reload_check
from irprune.families.sevennet import placing
from irprune.graph import EquivariantGraph
from irprune.slicing import slice_graph
from tests.families.sevennet_models import (
    VARIANTS,
    Original,
    build,
    checkpoint_of,
    frames,
    sevennet_0,
    small,
    tiny_checkpoint,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def keeping(graph: EquivariantGraph, counts: Mapping[str, int], seed: int = 0) -> EquivariantGraph:
    """Sliced to random groups, as many per axis as ``counts`` says."""
    rng = np.random.default_rng(seed)
    removed = np.zeros(graph.blocks.n_classes, bool)
    axes = {a.name: a for a in graph.axes()}
    for name, n in counts.items():
        groups = rng.permutation(axes[name].groups)
        removed[groups[n:]] = True
    return slice_graph(graph.replace(keep=graph.blocks.without(removed)))


def random_legal(graph: EquivariantGraph, seed: int) -> EquivariantGraph:
    """Sliced to random groups within the ties of the native class; some orders may vanish."""
    rng = np.random.default_rng(seed)
    axes = {a.name: a for a in graph.axes()}
    counts: dict[str, int] = {}
    for tie in family_of(graph).legal(graph).ties:
        sizes = {name: len(axes[name].groups) for name, _ in tie.members}
        steps = min(counts.get(n, sizes[n]) // per for n, per in tie.members)
        gone = int(rng.integers(0, steps + ("0e" not in tie.label and steps > 0)))
        if "0e" in tie.label or "radial" in tie.label:
            gone = min(gone, steps - 1)
        for name, per in tie.members:
            counts[name] = counts.get(name, sizes[name]) - gone * per
    return keeping(graph, counts, seed)


def reloaded(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """By sevenn alone; every key of the file is used and none is missing."""
    from sevenn.model_build import build_E3_equivariant_model

    saved = torch.load(path, weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_E3_equivariant_model(copy.deepcopy(saved["config"]))
    model.load_state_dict(saved["model_state_dict"], strict=True)
    return model, saved


def largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


def check_export(graph: EquivariantGraph, path: Path, tolerance: float) -> dict[str, Any]:
    """sevenn's model equals the graph in float64: energies, and forces relative to the forces.

    (Randomly pruned models have small forces: an absolute bound would say little.)
    """
    assert graph.atomistic is not None
    family_of(graph).export_native(graph, path)
    model, saved = reloaded(path)
    ours = Potential(graph.module(torch.float64), graph.atomistic)
    theirs = Potential(Original(model.double()), graph.atomistic)
    batch = ours.collate(frames(graph.atomistic.atomic_numbers))
    a, b = ours.evaluate(batch), theirs.evaluate(batch)
    assert a.forces is not None
    assert b.forces is not None
    assert largest(a.forces) > 1e-3
    assert largest(a.energies - b.energies) <= tolerance * largest(a.energies)
    assert largest(a.forces - b.forces) <= 10 * tolerance * largest(a.forces)
    return saved


@pytest.mark.parametrize("variant", [v for v in VARIANTS if "ssp" not in v])
def test_native_export_equals_the_sliced_graph(variant: str, tmp_path: Path) -> None:
    sliced = random_legal(small(variant).graph, seed=len(variant))
    saved = check_export(sliced, tmp_path / "small.pth", 1e-6)
    wanted = list(sliced.irreps_per_layer().values())
    assert saved["config"]["irreps_manual"] == wanted
    assert wanted != list(small(variant).graph.irreps_per_layer().values())
    values = saved["model_state_dict"].values()
    assert {v.dtype for v in values if v.is_floating_point()} == {torch.float32}


def test_an_unpruned_model_comes_back_as_it_was(tmp_path: Path) -> None:
    made = small("parity-nequip-bias")
    saved = check_export(made.graph, tmp_path / "same.pth", 0.0)
    before = torch.load(made.path, weights_only=True)
    config = before["config"]
    assert {k: saved["config"][k] for k in config} == config
    assert saved["model_state_dict"].keys() == before["model_state_dict"].keys()
    for key, value in before["model_state_dict"].items():
        assert torch.equal(saved["model_state_dict"][key], value), key


def without_orders(graph: EquivariantGraph, above: int) -> EquivariantGraph:
    removed = np.zeros(graph.blocks.n_classes, bool)
    for axis in graph.axes():
        if axis.kind == "channel" and int(axis.ir[0]) > above:
            removed[list(axis.groups)] = True
    return slice_graph(graph.replace(keep=graph.blocks.without(removed)))


@pytest.mark.parametrize(
    ("variant", "lmax", "orders"),
    [("even-linear-xplor", 0, (0, 0)), ("manual-readout-fcn", 1, (2, 1))],
)
def test_orders_of_the_config_follow_the_graph(
    variant: str, lmax: int, orders: tuple[int, int], tmp_path: Path
) -> None:
    sliced = without_orders(small(variant).graph, lmax)
    saved = check_export(sliced, tmp_path / "cut.pth", 1e-6)
    config = saved["config"]
    edge = config["lmax_edge"] if config["lmax_edge"] > 0 else config["lmax"]
    node = config["lmax_node"] if config["lmax_node"] > 0 else config["lmax"]
    assert (edge, node) == orders
    held = sum(v.numel() for k, v in saved["model_state_dict"].items() if k.endswith("weight"))
    assert held <= sliced.stats().params * 1.2


def test_a_layer_without_even_scalars_keeps_even_gates(tmp_path: Path) -> None:
    graph = small("even-linear-xplor").graph
    counts = {"0_equivariant_gate.gate:0e": 0, "1_self_interaction_1.linear:0e": 0}
    sliced = keeping(graph, counts)
    assert sliced.irreps_per_layer()["layer 0"] == "8x1e"
    saved = check_export(sliced, tmp_path / "odd.pth", 1e-6)
    assert saved["config"]["irreps_manual"][1] == "1x0e+8x1e"


def test_dead_components_of_the_last_layer_are_made_up_for(tmp_path: Path) -> None:
    model, settings = build(
        is_parity=False, lmax=1, self_connection_type="linear",
        irreps_manual=["4x0e", "4x0e+3x1e", "6x0e+2x1e"],
    )  # fmt: skip
    torch.save(checkpoint_of(model, settings), tmp_path / "wide.pth")
    graph = load_model(tmp_path / "wide.pth")
    sliced = slice_graph(graph)
    assert sliced.irreps_per_layer()["layer 1"] == "6x0e"
    saved = check_export(sliced, tmp_path / "slim.pth", 1e-6)
    assert saved["config"]["irreps_manual"][-1] == "12x0e"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"1_convolution.weight_nn.hidden0": 3}, r"\[6, 5\] in layer 0, \[3, 5\] in layer 1"),
        ({"1_self_interaction_1.linear:1e": 5}, r"layer 0 has 8x1e.*1_self_interaction_1.*5x1e"),
        ({"reduce_input_to_hidden.linear:0e": 3}, r"layer 1 has 8x0e.*4 hidden .*has 3"),
    ],
)
def test_structures_that_no_config_describes_are_refused(
    counts: dict[str, int], said: str, tmp_path: Path
) -> None:
    sliced = keeping(small("even-linear-xplor").graph, counts)
    with pytest.raises(LegalityError, match=said) as caught:
        family_of(sliced).export_native(sliced, tmp_path / "no.pth")
    assert "target graph" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_misplaced_weight_is_found_before_writing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = placing.match_messages

    def shifted(*args: Any) -> placing.Messages:
        found = real(*args)
        return replace(found, columns=np.roll(found.columns, 1))

    graph = small("even-linear-xplor").graph
    monkeypatch.setattr(placing, "match_messages", shifted)
    with pytest.raises(ExactnessError, match="differs from the graph"):
        family_of(graph).export_native(graph, tmp_path / "no.pth")
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_surgery_tier(tmp_path: Path) -> None:
    graph = small("even-linear-xplor").graph
    with pytest.raises(LegalityError, match="native:sevennet and graph"):
        family_of(graph).export_surgery(graph, tmp_path / "x.pth")


def test_training_can_continue_from_an_export(tmp_path: Path) -> None:
    from sevenn.scripts.processing_continue import processing_continue_v2
    from sevenn.sevenn_logger import Logger

    graph = small("even-linear-xplor").graph
    path = tmp_path / "start.pth"
    family_of(graph).export_native(graph, path)
    Logger(filename=str(tmp_path / "log"), screen=False)
    settings: dict[str, Any] = {
        "continue": {
            "checkpoint": str(path), "reset_optimizer": False, "reset_scheduler": False,
            "reset_epoch": False,
        }
    }  # fmt: skip
    states, epoch = processing_continue_v2(settings)
    assert epoch == 1
    assert states[1:] == [None, None]
    assert settings["scale"] == pytest.approx([1.5, 0.5, 2.5])


def test_a_fresh_process_agrees_and_another_model_does_not(tmp_path: Path) -> None:
    sliced = random_legal(small("ssp-parity-linear").graph, seed=2)
    path = tmp_path / "small.pth"
    family_of(sliced).export_native(sliced, path)
    structures = frames()
    checks = reload_check(sliced, "native", path, structures)
    assert [c.name for c in checks] == [
        f"reload-{k}-float32" for k in ("energy", "forces", "stress")
    ]
    assert all(c.ok for c in checks), checks
    changed = sliced.replace(gm=sliced.module())
    with torch.no_grad():
        changed.gm.get_parameter("model.1_convolution.weight_nn.layer0.weight").mul_(1.01)
    ours, theirs = (in_memory(g, structures[:1], "float32") for g in (sliced, changed))
    assert not any(c.ok for c in compare(ours, theirs, structures[:1], "float32"))


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    graph = small("even-linear-xplor").graph
    made = tiny_checkpoint()
    made["config"].pop("cutoff_function")
    torch.save(made, tmp_path / "broken.pth")
    with pytest.raises(CheckFailed, match=r"broken\.pth does not load .*cutoff_function"):
        reload_check(graph, "native", tmp_path / "broken.pth", frames()[:1])
    with pytest.raises(CheckFailed, match="float32, not in float64"):
        reload_check(graph, "native", tmp_path / "broken.pth", frames()[:1], dtypes=["float64"])
    with pytest.raises(DataError, match="Cu"):
        reload_check(graph, "native", tmp_path / "broken.pth", frames((29,))[:1])


def test_the_reload_script_stands_alone() -> None:
    script = family_of(small("even-linear-xplor").graph).reload_script()
    compile(script, "script", "exec")
    assert "irprune" not in script


def test_nan_and_other_shapes_never_pass() -> None:
    structures = frames()[:2]
    n = sum(map(len, structures))
    ours = Values(np.ones(2), np.ones((n, 3)), np.ones((2, 6)))
    assert all(c.ok and c.value == 0.0 for c in compare(ours, ours, structures, "float64"))
    for i in range(3):
        spoiled = [v.copy() for v in ours]
        spoiled[i].flat[0] = np.nan
        bad = compare(ours, Values(*spoiled), structures, "float64")
        assert [c.ok for c in bad] == [j != i for j in range(3)]
    with pytest.raises(CheckFailed, match="shape"):
        compare(ours, Values(np.ones(1), ours.forces, ours.stress), structures, "float64")


@pytest.mark.real
def test_sevennet_0_survives_export(tmp_path: Path) -> None:
    graph = sevennet_0()
    family = family_of(graph)
    sliced = keeping(graph, family.counts_for(graph, "120x0e+60x1e+30x2e"))
    saved = check_export(sliced, tmp_path / "small.pth", 1e-6)
    assert saved["config"]["irreps_manual"][1] == "120x0e+60x1e+30x2e"
    assert "shift" in saved["config"]
