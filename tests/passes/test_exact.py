"""The exact passes on a small potential: the claim, and every fold removed.

Their texts before and after are in test_goldens.py.
"""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

import irprune
from irprune import api
from irprune.atomistic import Atomistic
from irprune.errors import DataError, LegalityError, PipelineError, UsageError
from irprune.evaluation.potential import Potential as Runner
from irprune.functional import OneHot, message_gather
from irprune.kernels.cpu import ops as compiled
from irprune.ops.base import Other
from irprune.verification.ladder import claim_rung, verify_graph
from tests.passes import toy

BEFORE = {"share-pairs": "fuse-conv,"}
PASSES = ("cse", "fold-onehot", "fuse-conv", "share-pairs", "fuse-linear")
EVERYTHING = "cse,fold-onehot,fuse-conv,share-pairs,fuse-linear,cse"
ELEMENTS = (1, 6, 7, 8, 14)
INPUTS = {
    "edge_vectors": "edge:1x1o",
    "species": "index",
    "edge_index": "edge_index",
    "head": "index",
}


class Potential(nn.Module):
    """Two ways that elements enter, a convolution of l = 0 and 1, calls that are made twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one_hot = OneHot(len(ELEMENTS))
        self.embed = o3.Linear("5x0e", "4x0e+2x0e", biases=True)
        self.vectors = o3.Linear("4x0e+2x0e", "3x0e")
        self.sh = o3.SphericalHarmonics([0, 1], True, "component")
        self.tp = o3.TensorProduct(
            "3x0e",
            "0e+1o",
            "3x0e+3x1o",
            [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True, 2.0)],
            shared_weights=False,
        )
        self.radial = enn.FullyConnectedNet([1, 5, self.tp.weight_numel], torch.nn.functional.silu)
        self.mix = o3.Linear("3x0e+3x1o", "2x0e+2x1o+2x0e", biases=True)
        self.skip = o3.FullyConnectedTensorProduct("2x0e+2x1o+2x0e", "5x0e", "2x0e+2x1o")
        self.out = o3.FullyConnectedTensorProduct("2x0e+2x1o", "2x0e+2x1o", "1x0e")
        nn.init.normal_(self.mix.bias)
        nn.init.normal_(self.embed.bias)

    def forward(self, edge_vectors, species, edge_index, head):
        attrs = self.one_hot(species)
        x = self.vectors(torch.tanh(self.embed(attrs)) / 0.7) * 1.1
        r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
        weights = self.radial(torch.exp(-r * r)) * torch.exp(-r)
        message = self.tp(x[edge_index[1]], self.sh(edge_vectors), weights)
        total = message_gather(x, edge_index[0], message)
        y = self.skip(self.mix(total), attrs)
        return self.out(y, y).squeeze(-1)


def graph(network=Potential, seed=1):
    torch.manual_seed(seed)
    traced = irprune.trace(network().double(), INPUTS)
    inputs = {**traced.inputs, "species": Other("index", rows="node", value=len(ELEMENTS))}
    return traced.replace(
        inputs=inputs,
        atomistic=Atomistic("custom", 3.0, ELEMENTS, dtype="float64", name="small"),
    )


@pytest.fixture(scope="module")
def original():
    return graph()


@pytest.fixture(scope="module")
def frames(original):
    return api.generated_frames(original, 3)


def after(name, model):
    return irprune.run(f"{BEFORE.get(name, '')}{name}", model)


@pytest.mark.parametrize("pipeline", [*PASSES, EVERYTHING])
def test_the_claim_holds(original, frames, pipeline):
    made = irprune.run(f"{BEFORE.get(pipeline, '')}{pipeline}", original)
    assert made is not original
    assert made.claim.gm is original.gm
    assert claim_rung(made, frames).value < 1e-13
    assert claim_rung(made, None).value < 1e-13
    assert all(c.ok for c in verify_graph(made, frames, steps=("rotation", "permutation")))


def test_segments_of_one_irrep_that_lie_apart(original):
    _, report = api.run_reported("fuse-linear", original)
    assert report.results["fuse-linear"] == {"mix": "its segments of 0e do not lie side by side"}


@pytest.mark.parametrize("name", PASSES)
def test_again_changes_nothing(original, name):
    once = after(name, original)
    assert irprune.run(name, once).gm is once.gm


def test_the_original_stays_as_it_was(original, frames):
    before = str(original), copy.deepcopy(original.gm.state_dict())
    irprune.run(EVERYTHING, original)
    assert str(original) == before[0]
    for key, value in original.gm.state_dict().items():
        assert torch.equal(value, before[1][key])


def damaged(made, change):
    """The graph after a change to its modules."""
    gm = copy.deepcopy(made.gm)
    with torch.no_grad():
        change(gm)
    return made.replace(gm=gm)


def scaled(path, name, factor=1 + 1e-3):
    def change(gm):
        gm.get_submodule(path).get_parameter(name).mul_(factor)

    return change


def another_spec(path, number, **changes):
    def change(gm):
        module = gm.get_submodule(path)
        paths = list(module.spec.paths)
        paths[number] = dataclasses.replace(paths[number], **changes)
        module.spec = dataclasses.replace(module.spec, paths=tuple(paths))

    return change


def swapped_weights(path):
    def change(gm):
        module = gm.get_submodule(path)
        a, b = module.spec.paths
        paths = (
            dataclasses.replace(a, weight=b.weight),
            dataclasses.replace(b, weight=a.weight),
        )
        module.spec = dataclasses.replace(module.spec, paths=paths)

    return change


MUTATIONS = {
    "a table": ("fold-onehot", scaled("mul_table", "table")),
    "weights by element": ("fold-onehot", scaled("skip_by_element", "weights.1")),
    "a coefficient": ("fuse-conv", another_spec("tp_fused", 1, coefficient=2.0)),
    "the offsets of weights": ("fuse-conv", swapped_weights("tp_fused")),
    "a coupling": ("fuse-conv", another_spec("tp_fused", 0, coupling=((0, 0, 0, 0.999),))),
    "a matrix": ("fuse-linear", scaled("vectors_fused", "weights.0")),
    "a bias": ("fuse-linear", scaled("embed_fused", "bias")),
    "a radial layer": ("fuse-linear", scaled("radial_fused", "weights.0")),
    "a factor before and after": ("fuse-linear", scaled("vectors_fused", "weights.0", 1.1 / 0.7)),
    "the last radial layer": ("fuse-linear", scaled("radial_fused", "weights.1")),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_wrong_fold_is_found(original, frames, what):
    name, change = MUTATIONS[what]
    made = irprune.run(name, original)
    assert claim_rung(made, frames).ok
    assert not claim_rung(damaged(made, change), frames).ok


def test_pairs_that_are_no_pairs_are_found(original, frames, monkeypatch):
    """If edges of different lengths shared their weights, the claim would fail."""
    from irprune import edges

    made = irprune.run("fuse-conv,share-pairs", original)

    def wrong(sender, receiver, vectors, complete):
        number = torch.arange(len(sender)) // 2
        return torch.arange(0, len(sender), 2), number

    monkeypatch.setattr(edges, "pairs", wrong)
    assert not claim_rung(made, frames).ok


def test_weights_are_made_for_half_of_the_edges(original, frames):
    made = irprune.run("fuse-conv,share-pairs", original)
    seen = []
    gm = made.module()
    gm.get_submodule("radial").register_forward_hook(lambda m, a, out: seen.append(len(out)))
    found = Runner(gm, made.atomistic)
    batch = found.collate(frames)
    found.evaluate(batch)
    assert 2 * seen[0] == batch.n_edges


@pytest.mark.parametrize(
    "pipeline", ["share-pairs{complete=true}", "share-pairs,share-pairs{complete=true}"]
)
def test_pairs_that_are_said_to_be_complete(original, frames, pipeline):
    """The same model, and an edge without its reverse is an error instead of a pair of its own."""
    shared = irprune.run("fuse-conv,share-pairs", original)
    made = irprune.run(f"fuse-conv,{pipeline}", original)
    assert str(made).count("complete=True") == 1
    assert str(made).replace(", complete=True", "") == str(shared)
    assert str(irprune.run("share-pairs", made)) == str(shared)
    assert claim_rung(made, frames).value < 1e-12
    batch = api.potential(made).collate(frames)
    want, got = (api.potential(g).evaluate(batch) for g in (shared, made))
    assert torch.equal(want.forces, got.forces)
    ragged = {"edge_index": batch.edge_index[:, 1:], "shifts": batch.shifts[1:]}
    half = dataclasses.replace(batch, rounding=batch.rounding[1:], **ragged)
    api.potential(shared).evaluate(half)
    with pytest.raises(
        UsageError, match=r"edges were given, expected every edge once, with its reverse"
    ):
        api.potential(made).evaluate(half)


def test_the_command_line_says_it_of_a_file(original, tmp_path, capsys):
    """A graph file brings its facts: share-pairs requires one that fuse-conv has provided."""
    from irprune.cli import main as cli

    irprune.run("fuse-conv,share-pairs", original).save(str(tmp_path / "fast.irp"))
    given = ["-p", "share-pairs{complete=true}", "-o", str(tmp_path / "graphs.irp")]
    assert cli.run(["run", str(tmp_path / "fast.irp"), *given]) == 0, capsys.readouterr().err
    assert "complete=True" in str(irprune.load(tmp_path / "graphs.irp"))
    search = ["bisect", str(tmp_path / "fast.irp"), "-p", "share-pairs{complete=true}"]
    capsys.readouterr()
    cli.run([*search, "--json"])  # the toy is not smooth where neighbours come and go
    assert json.loads(capsys.readouterr().out)["runs"] == 1
    original.save(str(tmp_path / "plain.irp"))
    assert cli.run(["run", str(tmp_path / "plain.irp"), *given]) == 2
    assert "share-pairs needs 'lowered'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "bisect"])
def test_a_wrong_pipeline_is_said_before_a_checkpoint_is_loaded(verb, monkeypatch, capsys):
    from irprune.cli import main as cli

    monkeypatch.setattr(api, "load", None)
    assert cli.run([verb, "7net-0", "-p", "share-pairs"]) == 2
    assert "share-pairs needs 'lowered'" in capsys.readouterr().err


def test_a_network_without_atoms_whose_pairs_are_complete(original, tmp_path):
    """Random edges have no reverse: they are there to compare two graphs on."""
    from irprune.export import export

    network = original.replace(atomistic=None)
    made = irprune.run("fuse-conv,share-pairs{complete=true}", network)
    assert all(c.ok for c in verify_graph(made))
    assert all(c.ok for c in export(made, tmp_path / "network.irp").checks)


def test_the_compiled_kernels_run(original, frames):
    made = irprune.run("fuse-conv", original)
    before = compiled.CALLS["convolution"], compiled.CALLS["convolution_backward"]
    api.potential(made).evaluate(api.potential(made).collate(frames))
    now = compiled.CALLS["convolution"], compiled.CALLS["convolution_backward"]
    assert (now[0] - before[0], now[1] - before[1]) == (1, 1)


def test_what_cannot_be_fused_stays_and_is_named(frames):
    class Twice(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            x = self.vectors(torch.tanh(self.embed(self.one_hot(species))))
            r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
            m = self.tp(x[edge_index[1]], self.sh(edge_vectors), self.radial(r))
            y = message_gather(x, edge_index[0], m) + message_gather(x, edge_index[1], m)
            return y[:, :1].squeeze(-1)

    made, report = api.run_reported("fuse-conv,fold-onehot", graph(Twice))
    assert report.results["fuse-conv"] == {"tp": "its messages are read by 2 nodes"}
    assert claim_rung(made, None).value < 1e-13


def test_weights_that_tell_directions_apart_are_not_shared():
    class Directed(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            x = self.vectors(torch.tanh(self.embed(self.one_hot(species))))
            r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
            weights = self.radial(r * self.embed(self.one_hot(species))[edge_index[0]][:, :1])
            message = self.tp(x[edge_index[1]], self.sh(edge_vectors), weights)
            return message_gather(x, edge_index[0], message)[:, :1].squeeze(-1)

    made, report = api.run_reported("fuse-conv,share-pairs", graph(Directed))
    (reason,) = report.results["share-pairs"].values()
    assert "is not known to be the same for an edge and its reverse" in reason
    assert "edge_pairs" not in str(made)


@pytest.mark.parametrize("order", ["prune first", "cse between"])
def test_prune_then_optimize(original, frames, order):
    prune = "score{by=random},select{keep=0.6},slice"
    pipeline = f"{prune},{EVERYTHING}" if order == "prune first" else f"cse,{prune},{EVERYTHING}"
    made = irprune.run(pipeline, original, seed=1)
    assert made.stats().params < original.stats().params
    assert claim_rung(made, frames).value < 1e-12
    batch = api.potential(original).collate(frames)
    masked = Runner(made.masked_reference(), made.atomistic)
    want, got = masked.evaluate(batch), api.potential(made).evaluate(batch)
    assert torch.allclose(got.forces, want.forces, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["score{by=random}", "score{by=random},select{keep=0.5},slice"])
def test_pruning_after_lowering_says_in_which_order(original, name):
    with pytest.raises(PipelineError) as error:
        irprune.run(f"fuse-conv,{name}", original)
    assert str(error.value) == (
        "score: fuse-conv has rewritten ops for speed, and these keep all their blocks; run score"
        " before"
    )


@pytest.mark.parametrize("name", [*PASSES, "lower-contraction", "symmetrize-contraction"])
def test_a_selection_is_not_forgotten(original, name):
    first = "fuse-conv," if name == "share-pairs" else ""
    pipeline = f"{first}score{{by=random}},select{{keep=0.5}},{name},slice"
    match = "selected but not removed" if not first else "run score before"
    with pytest.raises(PipelineError, match=match):
        irprune.run(pipeline, original)


def test_a_pass_that_finds_nothing_lowers_nothing(original):
    assert "lowered" not in irprune.run("lower-contraction", original).facts
    assert "lowered" in irprune.run("fuse-conv", original).facts


def test_native_targets_are_refused(original, tmp_path):
    made = irprune.run("fuse-conv", original)
    with pytest.raises(LegalityError, match="have put ops into this graph that no family has"):
        irprune.run("export", made, output=tmp_path / "x.irp", target="surgery")


def test_a_graph_file_holds_all_of_it(original, frames, tmp_path):
    made = irprune.run(EVERYTHING, original)
    path = tmp_path / "fast.irp"
    made.save(str(path))
    again = irprune.load(path)
    assert str(again) == str(made)
    with pytest.raises(PipelineError, match="run score before"):
        irprune.run("score{by=random}", again)
    assert not any(p.requires_grad for p in again.gm.parameters())
    a, b = (api.potential(g) for g in (made, again))
    batch = a.collate(frames)
    assert torch.equal(a.evaluate(batch).forces, b.evaluate(batch).forces)


def test_training_goes_through_the_kernels(original, frames):
    """Gradients of a loss on forces by every weight, against the original's tables and kernels."""
    pipeline = "fuse-conv,share-pairs"
    made = irprune.run(pipeline, original)
    grads = []
    for model in (original, made):
        found = api.potential(model)
        for p in found.module.parameters():
            p.requires_grad_(True)
        out = found.evaluate(found.collate(frames), create_graph=True)
        loss = (out.forces**2).sum() + out.energy.sum()
        named = dict(found.module.named_parameters())
        values = torch.autograd.grad(loss, list(named.values()))
        grads.append(dict(zip(named, values, strict=True)))
    assert grads[0].keys() == grads[1].keys()
    for name, want in grads[0].items():
        assert torch.allclose(grads[1][name], want, rtol=1e-10, atol=1e-11), name


def test_specialize(original, frames):
    made = irprune.run(f"{EVERYTHING},specialize-elements{{elements=[H,O]}}", original)
    assert made.atomistic.symbols == ("H", "O")
    assert made.stats().params < original.stats().params
    some = api.generated_frames(made, 3)
    assert claim_rung(made, some).value < 1e-13
    again = irprune.run("specialize-elements{elements=[O]}", made)
    assert claim_rung(again, api.generated_frames(again, 2)).value < 1e-13
    carbon = [a for a in frames if "C" in a.get_chemical_symbols()]
    assert carbon
    with pytest.raises(DataError, match=r"\bC\b"):
        api.potential(made).collate(carbon)


@pytest.mark.parametrize(
    ("pipeline", "error", "message"),
    [
        (
            "specialize-elements{elements=[H,Xe]}",
            UsageError,
            "not know Xe; it knows H, C, N, O, Si",
        ),
        ("specialize-elements", UsageError, "name some elements; it knows H, C, N, O, Si"),
        ("specialize-elements{elements=[H]}", LegalityError, "run fold-onehot and lower-contr"),
    ],
)
def test_elements_that_cannot_be(original, pipeline, error, message):
    with pytest.raises(error, match=message):
        irprune.run(pipeline, original)


def test_all_elements_change_nothing(original):
    made = irprune.run("specialize-elements{elements=[H,C,N,O,Si]}", original)
    assert made.gm is original.gm


def test_a_module_that_is_called_twice_stays_one():
    class Shared(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            x = self.embed(self.one_hot(species))
            y = torch.tanh(self.vectors(x)) + self.vectors(torch.tanh(x)) * 2.0
            return y[:, :1].squeeze(-1)

    model = graph(Shared)
    made = irprune.run("fuse-linear", model)
    assert claim_rung(made, None).value < 1e-13
    assert str(made).count("{vectors_fused}") == 1
    assert str(made).count("{vectors_fused_2}") == 1  # the factor 2 is in its weights
    same = irprune.run("fuse-linear", graph(Twin))
    assert str(same).count("{vectors_fused}") == 2
    assert same.stats().params == graph(Twin).stats().params


class Twin(Potential):
    def forward(self, edge_vectors, species, edge_index, head):
        x = self.embed(self.one_hot(species))
        y = torch.tanh(self.vectors(x)) + self.vectors(torch.tanh(x))
        return y[:, :1].squeeze(-1)


def test_what_is_changed_in_place_is_not_merged():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = o3.Linear("3x0e", "4x0e"), o3.Linear("3x0e", "4x0e")

        def forward(self, x, src, dst):
            a, b = self.a(x)[src], self.b(x)[src]
            first = a.new_zeros(x.shape[0], 4).index_add_(0, dst, a)
            second = a.new_zeros(x.shape[0], 4).index_add_(0, dst, b)
            return first * second

    traced = irprune.trace(
        InPlace().double(), {"x": "node:3x0e", "src": "edge:index", "dst": "edge:index"}
    )
    made = irprune.run("cse", traced)
    if made.gm is not traced.gm:
        assert claim_rung(made, None).value < 1e-13
    args = traced.example(seed=1)
    assert torch.allclose(made.gm(*args), traced.gm(*args))


def test_a_result_in_place_that_nobody_uses_is_not_lost():
    class Added(nn.Module):
        def forward(self, x):
            y = x * 2.0
            y.add_(x)
            return y

    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(irprune.trace(Added(), {"x": "3x0e"}).gm(x), 3 * x)


def test_a_factor_between_two_maps_goes_into_one():
    class Between(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            y = self.vectors(self.embed(self.one_hot(species)) * 1.7)
            return y[:, :1].squeeze(-1)

    made, report = api.run_reported("fuse-linear", graph(Between))
    assert report.results["fuse-linear"] == {}
    assert claim_rung(made, None).value < 1e-13
    assert "= linear(" not in str(made)


def test_a_reader_of_elements_that_stays_is_named():
    class Wide(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            attrs = self.one_hot(species)
            y = self.embed(attrs)[edge_index[0]] * attrs[edge_index[1]][:, :1]
            return message_gather(attrs, edge_index[0], y)[:, :1].squeeze(-1)

    made, report = api.run_reported("fold-onehot", graph(Wide))
    reasons = set(report.results["fold-onehot"].values())
    assert "getitem that reads one-hot elements has no form by element" in reasons
    assert claim_rung(made, None).value < 1e-13


def test_a_table_by_head_is_not_cut(original):
    class Headed(Potential):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.linspace(1, 2, 6))

        def forward(self, edge_vectors, species, edge_index, head):
            y = self.embed(self.one_hot(species))[:, :1]
            return (y * self.scale[head].unsqueeze(-1)).squeeze(-1)

    model = graph(Headed)
    made = irprune.run("fold-onehot,specialize-elements{elements=[H,O]}", model)
    assert dict(made.gm.named_parameters())["scale"].shape == (6,)


def test_a_mask_by_the_element_of_one_end_is_not_shared():
    class Masked(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            x = self.vectors(torch.tanh(self.embed(self.one_hot(species))))
            r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
            heavy = species[edge_index[0]].unsqueeze(-1) > 2
            weights = torch.where(heavy, 0.0, self.radial(r))
            message = self.tp(x[edge_index[1]], self.sh(edge_vectors), weights)
            return message_gather(x, edge_index[0], message)[:, :1].squeeze(-1)

    model = graph(Masked)
    made, report = api.run_reported("fuse-conv,share-pairs", model)
    assert "edge-pairs" not in str(made)
    (reason,) = report.results["share-pairs"].values()
    assert "apart" in reason or "is not known to be the same" in reason
    assert claim_rung(made, api.generated_frames(model, 3)).value < 1e-12


def test_scatters_in_another_order_than_products():
    class Crossed(Potential):
        def forward(self, edge_vectors, species, edge_index, head):
            x = self.vectors(torch.tanh(self.embed(self.one_hot(species))))
            y, sh = torch.tanh(x), self.sh(edge_vectors)
            r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
            w = self.radial(r)
            first = self.tp(x[edge_index[1]], sh, w)
            second = self.tp(y[edge_index[1]], sh, self.radial(torch.exp(-r)))
            b = message_gather(y, edge_index[0], second)
            a = message_gather(x, edge_index[0], first)
            return (a * 1.0 + b)[:, :1].squeeze(-1)

    model = graph(Crossed)
    made = irprune.run(EVERYTHING, model)
    assert str(made).count("= convolution(") == 2
    assert claim_rung(made, api.generated_frames(model, 3)).value < 1e-12


def test_the_other_toy_as_well():
    model = toy.graph()
    made = irprune.run(EVERYTHING, model)
    assert claim_rung(made, api.generated_frames(model, 3)).value < 1e-12
