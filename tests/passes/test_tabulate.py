"""tabulate-radial on small potentials: what becomes a table, what stays, and bounds that hold."""

from __future__ import annotations

import pytest
import torch

import irprune
from irprune import api
from irprune.errors import ExactnessError, PipelineError, UsageError
from irprune.evaluation.potential import Potential as Runner
from irprune.functional import scatter_sum
from irprune.kernels.cpu import ops as compiled
from irprune.layers.table import RadialTable
from irprune.splines import build
from tests.passes import toy
from tests.passes.test_exact import graph

EXACT = "cse,fold-onehot,fuse-conv,share-pairs,fuse-linear,cse"
TABLE = "tabulate-radial{tol=1e-6,shortest=0.4}"


@pytest.fixture(scope="module")
def fast():
    return irprune.run(EXACT, graph())


@pytest.fixture(scope="module")
def tabulated(fast):
    return api.run_reported(TABLE, fast)


@pytest.fixture(scope="module")
def frames(fast):
    return api.generated_frames(fast, 3)


def difference(a, b, frames, dtype=torch.float64):
    """Largest of forces, relative to the largest force."""
    one, two = (Runner(g.module(dtype), g.atomistic) for g in (a, b))
    x, y = (r.evaluate(r.collate(frames), stress=True) for r in (one, two))
    return float((x.forces - y.forces).abs().max() / x.forces.abs().max())


def test_forces(fast, tabulated, frames):
    """Not exact, and as near as was asked."""
    made, report = tabulated
    before = compiled.CALLS["table_dot"]
    found = difference(fast, made, frames)
    assert 1e-12 < found < 1e-4
    assert compiled.CALLS["table_dot"] > before
    (bound,) = report.results["bounds"].values()
    assert max(bound["value"], bound["slope"]) <= 1e-6
    assert report.results["tabulate-radial"] == {}


def test_a_tighter_tolerance_is_nearer(fast, frames):
    found = [
        difference(fast, irprune.run(f"tabulate-radial{{tol={tol},shortest=0.4}}", fast), frames)
        for tol in ("1e-3", "1e-6", "1e-9")
    ]
    assert found[0] > 30 * found[1] > 900 * found[2]


def test_what_is_claimed(fast, tabulated):
    made, _ = tabulated
    assert fast.claim is not None
    assert made.claim is None
    assert "lowered" in made.facts


def test_no_network_is_left(tabulated):
    modules = [type(m).__name__ for m in tabulated[0].gm.modules()]
    assert "DenseNet" not in modules
    assert modules.count("RadialTable") == 1


def test_a_file_holds_it(tabulated, frames, tmp_path):
    made = tabulated[0]
    made.save(str(tmp_path / "made.irp"))
    again = irprune.load(tmp_path / "made.irp")
    assert str(again) == str(made)
    assert difference(made, again, frames) == 0.0


def test_atoms_that_are_too_near_are_refused(tabulated):
    from ase import Atoms

    near = Atoms("CO", [[0, 0, 0], [0, 0, 0.3]])
    with pytest.raises(
        UsageError, match=r"^a distance of 0\.3 Å is outside of the tabulated range"
    ):
        irprune.calculator(tabulated[0]).calculate(near)


@pytest.mark.parametrize("shortest", [0.4, 1.5, 2.6])
def test_checks_of_shapes_on_random_numbers_ask_for_no_range(fast, shortest):
    made = irprune.run(f"tabulate-radial{{tol=1e-4,shortest={shortest}}}", fast)
    assert made.gm is not fast.gm


def test_again_changes_nothing(tabulated):
    assert irprune.run(TABLE, tabulated[0]).gm is tabulated[0].gm


def test_a_wrong_bound_is_found(fast, monkeypatch):
    """Were a derivative larger than the bound on it, the comparison with the network shows it."""
    true = build.largest_derivative
    monkeypatch.setattr(build, "largest_derivative", lambda *a: true(*a) / 1e4)
    with pytest.raises(ExactnessError, match=r"the (value|slope) of .* is off by .* was proven"):
        irprune.run(TABLE, fast)


@pytest.mark.parametrize("change", ["coefficients", "pieces"])
def test_a_damaged_table_is_found(fast, tabulated, frames, change):
    import copy
    import dataclasses

    made = tabulated[0].replace(gm=copy.deepcopy(tabulated[0].gm))
    (table,) = (m for m in made.gm.modules() if isinstance(m, RadialTable))
    if change == "coefficients":
        table.coefficients[0, :, 1] *= 1.001
    else:
        *rest, (start, stop, count) = table.spec.pieces
        moved = (start, stop + 1e-3, count)
        table.spec = dataclasses.replace(table.spec, pieces=(*rest, moved))
    assert difference(fast, made, frames) > 1e-4


def test_options_that_make_no_sense_are_refused(fast):
    for text, message in (
        ("tol=0", "tabulate-radial: tol is 0.0, expected more than 0"),
        ("shortest=-1", "tabulate-radial: shortest is -1.0, expected more than 0"),
        ("degree=4", "tabulate-radial: degree is 4, expected 3 or 5"),
    ):
        with pytest.raises(PipelineError, match=f"{message}$"):
            irprune.run(f"tabulate-radial{{{text}}}", fast)
    with pytest.raises(
        UsageError, match=r"shortest is 3\.5 Å, expected less than the cutoff, 3\.0"
    ):
        irprune.run("tabulate-radial{shortest=3.5}", fast)
    with pytest.raises(PipelineError, match="lowered"):
        irprune.run(TABLE, toy.graph())


class Directed(toy.Potential):
    """A radial network that reads the direction of an edge too."""

    def forward(self, edge_vectors, species, edge_index, head):
        x = self.embed(self.one_hot(species))
        y = self.sh(edge_vectors)
        message = self.tp(x[edge_index[1]], y, self.radial(y[:, :1]))
        total = scatter_sum(message, edge_index[0], dim=0, dim_size=species.shape[0])
        y = self.gate(self.mix(total))
        return self.out(self.square(y, y)).squeeze(-1)


def traced(network):
    from tests.passes.test_exact import INPUTS

    torch.manual_seed(1)
    made = irprune.trace(network.double(), INPUTS)
    return made.replace(atomistic=toy.graph().atomistic)


def test_networks_of_more_than_a_length_stay_with_the_reason():
    graph = irprune.run("fuse-conv,fuse-linear", traced(Directed()))
    made, report = api.run_reported("tabulate-radial", graph)
    assert made.gm is graph.gm
    assert report.results["bounds"] == {}
    assert report.results["tabulate-radial"] == {
        "radial_fused": "sh (spherical-harmonics) is no function of one length"
    }


def test_functions_without_known_derivatives_stay_with_the_reason():
    network = toy.Potential()
    network.radial = torch.nn.Sequential()
    network.radial = toy.enn.FullyConnectedNet([1, 5, network.tp.weight_numel], torch.relu)
    graph = irprune.run("fuse-conv,fuse-linear", traced(network))
    made, report = api.run_reported("tabulate-radial", graph)
    assert made.gm is graph.gm
    assert report.results["tabulate-radial"] == {
        "radial_fused": "radial_fused (module radial_fused): no derivatives of torch's relu are known"
    }


class Scaled(toy.Potential):
    """A radial network of a length times a number that something else decides."""

    def __init__(self, scale):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.rand(8, 8) + 0.5)
        self.scale = scale

    def forward(self, edge_vectors, species, edge_index, head):
        x = self.embed(self.one_hot(species))
        r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
        weights = self.radial(self.scale(self, r, species, edge_index, head))
        message = self.tp(x[edge_index[1]], self.sh(edge_vectors), weights)
        total = scatter_sum(message, edge_index[0], dim=0, dim_size=species.shape[0])
        y = self.gate(self.mix(total))
        return self.out(self.square(y, y)).squeeze(-1)


SCALES = {
    "length": lambda m, r, s, e, h: r,
    "pairs of elements": lambda m, r, s, e, h: r * m.alpha[s[e[0]], s[e[1]]].unsqueeze(-1),
    "chosen by element": lambda m, r, s, e, h: r * torch.where(s[e[0]] > 1, 2.0, 1.0).unsqueeze(-1),
    "species": lambda m, r, s, e, h: r * (s[e[0]] + 20).unsqueeze(-1) / 25,
    "rest of species": lambda m, r, s, e, h: r * (s[e[0]] % 2 + 0.5).unsqueeze(-1),
    "atoms": lambda m, r, s, e, h: r / s.shape[0],
    "edges": lambda m, r, s, e, h: r * (s.shape[0] / e.shape[1]),
    "head": lambda m, r, s, e, h: r * torch.where(h[e[0]] > 0, 2.0, 1.0).unsqueeze(-1),
    "atom numbers": lambda m, r, s, e, h: r * m.alpha[e[0] % 8, 0].unsqueeze(-1),
    "whole numbers": lambda m, r, s, e, h: (r * 4).to(torch.int64).to(torch.float64),
    "two exponents": lambda m, r, s, e, h: torch.pow(r, m.alpha[0, :1]),
    "softplus": lambda m, r, s, e, h: torch.nn.functional.softplus(r, 1.0, 0.1),
}


@pytest.mark.parametrize("name", SCALES)
def test_a_network_is_tabulated_rightly_or_not_at_all(name):
    """Whatever scales the length: forces are right, or the network stays with a reason."""
    graph = traced(Scaled(SCALES[name]))
    fast = irprune.run("cse,fold-onehot,fuse-conv,share-pairs,fuse-linear,cse", graph)
    frames = api.generated_frames(fast, 2)
    made, report = api.run_reported("tabulate-radial{tol=1e-5,shortest=0.4}", fast)
    assert difference(graph, made, frames) < 1e-4
    assert bool(report.results["bounds"]) != bool(report.results["tabulate-radial"])
