"""What a MACE config can say, and MACE files that mace loads again."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.io import write

from irprune.data.batch import collate
from irprune.errors import ExactnessError, LegalityError, UsageError
from irprune.evaluation.potential import Potential
from irprune.families import load_model
from irprune.families.mace import MaceFamily, contraction
from irprune.families.mace.config import config_of
from irprune.families.mace.core import MaceCore
from irprune.families.mace.export import native_model
from irprune.families.mace.library import import_mace
from irprune.families.mace.structure import hidden_counts, sort_axes
from irprune.families.mace.surgery import operated_model
from irprune.slicing import masked_and_sliced, slice_graph
from tests.families import mace_models
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture
from tests.families.test_mace_capture import energies, graph_of

FAMILY = MaceFamily()


def removed(graph, counts):
    """A legal mask that keeps a random choice of so many groups per axis."""
    rng = np.random.default_rng(0)
    out = np.zeros(graph.blocks.n_classes, bool)
    for axis in graph.axes():
        n = counts.get(axis.name, len(axis.groups))
        out[rng.permutation(np.array(axis.groups))[: len(axis.groups) - n]] = True
    return graph.blocks.without(out)


@functools.cache
def to(name, irreps):
    graph = graph_of(name)
    return slice_graph(graph.replace(keep=removed(graph, FAMILY.counts_for(graph, irreps))))


def step_by_step(graph, steps, max_ell=None, hidden_lmax=None):
    """Removes ``steps`` steps of every tie, and the orders above those given."""
    found, axes = FAMILY.legal(graph), {a.name: a for a in graph.axes()}
    counts = {
        name: len(axes[name].groups) - steps * per for t in found.ties for name, per in t.members
    }
    out = ~removed(graph, counts)
    for tie in found.orders:
        top = {"max_ell": max_ell, "hidden orders": hidden_lmax}[tie.label]
        for name in tie.axes if top is not None else ():
            out[list(axes[name].groups[top + 1 :])] = True
    return slice_graph(graph.replace(keep=graph.blocks.without(out)))


def batch_for(graph):
    dtype = next(graph.gm.parameters()).dtype
    frames = mace_models.structures()
    return collate(frames, graph.atomistic, dtype, head=graph.atomistic.heads[-1])


def assert_same(graph, model):
    batch = batch_for(graph)
    want, got = energies(graph, batch), mace_models.node_energies(model, batch)
    limit = 1e-12 if want.dtype is torch.float64 else 1e-5
    assert float((want - got).abs().max()) <= limit * float(want.abs().max())


@pytest.mark.parametrize(
    "name", ["omat", "bias", "deep", "last", "plain", "float32", "agnostic", "reduced"]
)
def test_unpruned_is_rebuilt_exactly(name):
    graph = graph_of(name)
    model = native_model(graph)
    original = graph.source.module
    assert type(model) is type(original)
    assert dict(model.state_dict()).keys() == dict(original.state_dict()).keys()
    for key, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert_same(graph, model)


@pytest.mark.parametrize("name", ["omat", "bias", "deep", "single"])
def test_config_is_the_one_the_model_was_built_with(name):
    given = mace_models.STYLES[name]
    config = config_of(graph_of(name).source.module)
    assert str(config["hidden_irreps"]) == given["hidden"]
    for key in ("use_so3", "apply_cutoff", "distance_transform", "pair_repulsion", "radial_type"):
        if key in given:
            assert config[key] == given[key], key
    assert config["correlation"] == given.get("correlation", [3] * config["num_interactions"])
    assert config["radial_MLP"] == [8, 9]
    assert str(config["edge_irreps"]) == str(given.get("edge_irreps"))


def test_config_agrees_with_maces_own_extraction():
    model = graph_of("omat").source.module
    theirs = import_mace("mace.tools.scripts_utils").extract_config_mace_model(model)
    ours = config_of(model)
    for key in ("r_max", "num_bessel", "max_ell", "interaction_cls", "interaction_cls_first",
                "hidden_irreps", "MLP_irreps", "gate", "avg_num_neighbors", "radial_MLP",
                "pair_repulsion", "distance_transform", "heads"):  # fmt: skip
        assert ours[key] == theirs[key], key


@pytest.mark.parametrize(
    ("name", "irreps", "message"),
    [
        ("omat", "5x0e", "5x0e+5x1o+5x2e"),
        ("heads", "3x0e", "3x0e+3x1o+3x2e"),
        ("reduced", "3x0e", "3x0e+3x1o+3x2e"),
    ],
)
def test_target_irreps_in_every_tier(name, irreps, message):
    sliced = to(name, irreps)
    assert sliced.irreps_per_layer() == {
        "embedding": irreps.split("+")[0],
        "layer 1 message": message,
        "layer 1 hidden": irreps,
        "layer 2 message": message,
        "layer 2 hidden": irreps.split("+")[0],
    }
    model = native_model(sliced)
    assert_same(sliced, model)
    assert_same(sliced, operated_model(sliced))
    assert str(config_of(model)["hidden_irreps"]) == irreps
    before = energies(graph_of(name), batch_for(sliced))
    assert float((before - energies(sliced, batch_for(sliced))).abs().max()) > 1e-6


@pytest.mark.parametrize(("name", "max_ell", "hidden"), [("bias", 1, None), ("deep", None, 0)])
def test_steps_of_the_ties_stay_native(name, max_ell, hidden):
    """Steps of all ties at once, orders on top; ``deep`` has message orders that are dead."""
    sliced = step_by_step(graph_of(name), 1, max_ell, hidden)
    model = native_model(sliced)
    assert_same(sliced, model)
    if max_ell is not None:
        assert model.spherical_harmonics.irreps_out.lmax == max_ell
    if name == "deep":
        assert sliced.irreps_per_layer()["layer 3 message"] == "3x0e"
        assert str(model.interactions[2].reshape.irreps) == "3x0e+3x1o+3x2e"
        assert (
            not model.products[2].symmetric_contractions.contractions[0].weights_max.isnan().any()
        )


def test_ragged_needs_surgery():
    sliced = to("heads", "5x0e+3x1o")
    with pytest.raises(LegalityError, match=r"5x0e\+3x1o.*5x0e\+5x1o.*surgery"):
        native_model(sliced)
    model = operated_model(sliced)
    assert_same(sliced, model)
    assert str(model.interactions[1].node_feats_irreps) == "5x0e+3x1o"
    assert model.readouts[0].linear.irreps_in.dim == 14
    modules = {type(m).__module__.partition(".")[0] for m in model.modules()}
    assert modules <= {"torch", "e3nn", "mace", "opt_einsum_fx"}


def test_different_layers_need_surgery():
    graph = graph_of("heads")
    axis = next(a for a in graph.axes() if a.name == "interactions.1.linear_up:0e")
    sliced = slice_graph(graph.replace(keep=removed(graph, {axis.name: 2})))
    with pytest.raises(LegalityError, match=r"interactions\.1\.linear_up"):
        native_model(sliced)
    assert_same(sliced, operated_model(sliced))


def test_removed_paths_need_another_target():
    graph = graph_of("heads")
    axis = next(a for a in graph.axes() if a.name == "interactions.1.conv_tp.path")
    sliced = slice_graph(graph.replace(keep=removed(graph, {axis.name: len(axis.groups) - 1})))
    with pytest.raises(LegalityError, match="conv_tp"):
        native_model(sliced)
    assert_same(sliced, operated_model(sliced))


def test_a_wrong_weight_is_caught_before_it_is_written(tmp_path):
    graph = graph_of("heads")
    broken = graph.replace(gm=graph.module())
    with torch.no_grad():
        broken.gm.model.radial_embedding.bessel_fn.bessel_weights.mul_(1.5)
    broken.gm.graph.nodes  # noqa: B018 - the graph itself is untouched
    model = native_model(broken)
    assert_same(broken, model)
    with torch.no_grad():
        model.products[0].linear.weight[0] += 1.0
    from irprune.families.mace.export import compare

    with pytest.raises(ExactnessError, match="differs from the graph"):
        compare(broken, model, "the model")


def test_surgery_refuses_foreign_layers():
    class Foreign(torch.nn.Module):
        def forward(self, x):
            return x

    graph = graph_of("heads")
    changed = graph.replace(gm=graph.module())
    changed.gm.model.readouts._modules["1"]._modules["non_linearity"] = Foreign()
    with pytest.raises(LegalityError, match=r"Foreign.*readouts|readouts.*Foreign"):
        operated_model(changed)


def test_a_basis_that_the_class_does_not_have_is_projected():
    """A model made with use_reduced_cg, where the class makes the full basis, and back."""
    graph = graph_of("agnostic")
    full = contraction.read(graph.source.module.products[0].symmetric_contractions)[0]
    single = "1x0e+1x1o+1x2e"
    reduced = contraction.rebase(full, single, True, "here")
    assert reduced.u[2].shape[-1] <= full.u[2].shape[-1]
    lifted = contraction.lift(
        full, reduced, np.ones(9, bool), np.ones(6, bool), np.ones(1, bool), "here"
    )
    x = torch.randn(5, 6, 9, dtype=torch.float64)
    y = torch.ones(5, 1, dtype=torch.float64)
    want, got = (contraction.evaluate([t], x, y) for t in (full, lifted))
    assert torch.allclose(want, got, rtol=1e-11, atol=1e-13)
    assert lifted.u[2].shape == full.u[2].shape


def test_legal():
    legal = FAMILY.legal(graph_of("heads"))
    assert legal.target == "native:mace"
    ties = {t.label: dict(t.members) for t in legal.ties}
    assert set(ties) == {"channels", "radial hidden0", "radial hidden1", "readout"}
    for name in ("node_embedding.linear:0e", "interactions.0.reshape.channel",
                 "interactions.0.linear:2e", "interactions.1.linear_up:1o",
                 "products.0.linear:1o", "products.1.linear:0e"):  # fmt: skip
        assert ties["channels"][name] == 1
    assert len(ties["radial hidden0"]) == 2
    orders = {o.label: o.axes for o in legal.orders}
    assert orders["max_ell"] == (
        "spherical_harmonics", "interactions.0.reshape.order", "interactions.1.reshape.order",
    )  # fmt: skip
    assert orders["hidden orders"] == ("products.0.symmetric_contractions.order_out",)
    assert "interactions.1.conv_tp.path" in legal.frozen
    assert "interactions.1.density_fn" in legal.frozen


def test_every_axis_has_a_role():
    for name in ("bias", "omat", "RealAgnosticAttResidualInteractionBlock", "deep"):
        graph = graph_of(name)
        found, legal = sort_axes(graph), FAMILY.legal(graph)
        named = {n for t in legal.ties for n, _ in t.members} | set(legal.frozen)
        named |= {n for o in legal.orders for n in o.axes}
        assert named == {a.name for a in graph.axes()}
        assert found.channels


def test_edge_irreps_have_their_own_ties():
    ties = {t.label: dict(t.members) for t in FAMILY.legal(graph_of("bias")).ties}
    assert ties["edge 0e"] == {"interactions.1.linear_up:0e": 1}
    assert "interactions.0.linear_up:0e" in ties["channels"]


@pytest.mark.parametrize(
    ("irreps", "error", "message"),
    [
        ("7x0e", LegalityError, r"7x0e.*6x0e\+6x1o"),
        ("4x0e+4x2e", LegalityError, r"4x2e.*6x0e\+6x1o"),
        ("4x1o", LegalityError, "scalars"),
        ("0x0e+4x1o", LegalityError, "scalars"),
        ("2x0e+2x0e", UsageError, "twice"),
        ("six0e", UsageError, "cannot read irreps"),
    ],
)
def test_impossible_targets(irreps, error, message):
    with pytest.raises(error, match=message):
        FAMILY.counts_for(graph_of("heads"), irreps)


def test_a_traced_network_has_no_mace_form(tmp_path):
    graph = dataclasses.replace(graph_of("heads"), source=None)
    for export in (FAMILY.export_native, FAMILY.export_surgery):
        with pytest.raises(LegalityError, match="target graph"):
            export(graph, tmp_path / "x.model")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_no_file(tmp_path):
    sliced = to("heads", "5x0e+3x1o")
    with pytest.raises(LegalityError):
        FAMILY.export_native(sliced, tmp_path / "x.model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize("name", ["mace_GeSbTe_L1", "mace_mp_0_small"])
def test_real_checkpoints_stay_native(shared, name):
    """Unpruned and pruned; these were made by older versions, with tensors rounded to float32."""
    graph = load_model(shared / "checkpoints" / f"{name}.model", trust=True)
    contents = native_model(graph).state_dict()
    for key, value in graph.source.module.state_dict().items():
        assert torch.equal(contents[key].reshape(-1), value.to(contents[key]).reshape(-1)), key
    half = {n: c // 2 for n, c in FAMILY.counts_for(graph, irreps_of(graph)).items()}
    sliced = slice_graph(graph.replace(keep=removed(graph, half)))
    masked, small = masked_and_sliced(sliced)
    inputs = graph.example(seed=1, grow=3)
    with torch.no_grad():
        want, got = masked(*inputs), small(*inputs)
        assert float((want - got).abs().max()) <= 1e-12 * float(want.abs().max())
        native = MaceCore(native_model(sliced))
        assert float((native(*inputs) - got).abs().max()) <= 1e-12 * float(want.abs().max())


def irreps_of(graph):
    return "+".join(f"{n}x{ir}" for ir, n in hidden_counts(graph).items())


@pytest.mark.slow
def test_maces_calculator_loads_both_tiers_without_irprune(tmp_path):
    """A fresh process: energies, forces and stress of the second head."""
    sliced = to("heads", "4x0e+4x1o")
    frames = mace_models.structures()[:2]
    write(tmp_path / "s.extxyz", frames, format="extxyz")
    script = tmp_path / "script.py"
    script.write_text(FAMILY.reload_script())
    assert "irprune" not in FAMILY.reload_script()
    potential = Potential(sliced.gm, sliced.atomistic, head="ccsd")
    found = [potential.evaluate(potential.collate([a]), stress=True) for a in frames]
    for export in (FAMILY.export_native, FAMILY.export_surgery):
        model, out = tmp_path / "m.model", tmp_path / "out.npz"
        export(sliced, model)
        arguments = [str(p) for p in (script, model, tmp_path / "s.extxyz")]
        done = subprocess.run(
            [sys.executable, *arguments, "float64", str(out), "ccsd"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with np.load(out) as values:
            for i, want in enumerate(found):
                assert abs(values["energy"][i] - float(want.energy)) < 1e-9
            forces = torch.cat([w.forces for w in found]).numpy()
            assert np.abs(values["forces"] - forces).max() < 1e-9
            stress = found[1].stress[0].numpy()
            assert abs(values["stress"][1][0] - stress[0, 0]) < 1e-9
            assert abs(values["stress"][1][3] - stress[1, 2]) < 1e-9
