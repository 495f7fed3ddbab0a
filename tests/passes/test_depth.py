"""Fewer layers and lower correlation orders: against the original with values put in by hand."""

from __future__ import annotations

import pytest
import torch
from torch import fx

import irprune
import irprune.api
from irprune import depth
from irprune.errors import LegalityError, UsageError
from irprune.families import family_of
from irprune.families.mace import MaceFamily, contraction
from irprune.families.mace.export import native_model as native_mace
from irprune.families.mace.load import wrap
from irprune.families.sevennet.export import native_model as native_sevennet
from irprune.families.trace import trace_family
from tests.families import sevennet_models
from tests.families.mace_models import STYLES, build, without_torchscript  # noqa: F401


@pytest.fixture(scope="module")
def sevennet(tmp_path_factory):
    """Three layers, of which the middle one gives the type that it takes in."""
    model, settings = sevennet_models.build(
        lmax=1, num_convolution_layer=3, channel=4, is_parity=False, conv_denominator=[2.0, 3.0, 4.0],
        irreps_manual=["4x0e", "4x0e+2x1e", "4x0e+2x1e", "4x0e"],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("sevennet") / "three.pth"
    torch.save(sevennet_models.checkpoint_of(model, settings), path)
    return irprune.load(path)


@pytest.fixture(scope="module")
def mace(without_torchscript):  # noqa: F811
    return trace_family(
        MaceFamily(), wrap(build(**{**STYLES["deep"], "correlation": 1, "max_ell": 1}), "")
    )


class Bypassed(fx.Interpreter):
    """The original graph; some nodes hand on the value of another."""

    def __init__(self, graph, pairs):
        super().__init__(graph.module(torch.float64))
        self.pairs = pairs

    def run_node(self, n):
        if n.name in self.pairs:
            (source,) = [m for m in self.module.graph.nodes if m.name == self.pairs[n.name]]
            return self.env[source]
        return super().run_node(n)


def reference(graph, numbers):
    known = depth.layers_of(graph)
    made = Bypassed(graph, {known[n].gives: known[n].takes for n in numbers})
    made.garbage_collect_values = False
    return made.run


def same(graph, small, numbers):
    for seed in (1,):
        inputs = graph.example(seed=seed, grow=seed)
        with torch.no_grad():
            a = small.module(torch.float64)(*inputs)
            b = reference(graph, numbers)(*inputs)
            whole = graph.module(torch.float64)(*inputs)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert (a - whole).abs().max() > 1e-6, "the layer does nothing in this test"


def test_a_layer_of_sevennet_goes_and_the_rest_is_a_sevennet(sevennet):
    small = irprune.run("drop-layers{layers=[1]}", sevennet)
    same(sevennet, small, [1])
    assert small.irreps_per_layer() == {
        "embedding": "4x0e", "layer 0": "4x0e+2x1e", "layer 1": "4x0e",
    }  # fmt: skip
    assert small.stats().params < sevennet.stats().params
    _, config = native_sevennet(small)  # builds, loads strictly, and compares
    assert config["num_convolution_layer"] == 2
    assert config["irreps_manual"] == ["4x0e", "4x0e+2x1e", "4x0e"]
    assert config["conv_denominator"] == [2.0, 4.0]


@pytest.mark.slow
def test_what_is_left_can_be_pruned_and_written(sevennet, tmp_path):
    small = irprune.run(
        "drop-layers{layers=[1]},score{by=magnitude},select{keep=0.6},slice", sevennet
    )
    native_sevennet(small)
    small.save(tmp_path / "small.irp")
    again = irprune.load(tmp_path / "small.irp")
    inputs = small.example()
    assert torch.equal(again.module(torch.float64)(*inputs), small.module(torch.float64)(*inputs))


def test_layers_of_mace(mace):
    small = irprune.run("drop-layers{layers=[2,3]}", mace)
    same(mace, small, [2, 3])
    assert {label.partition(" ")[2][0] for label in small.labels if "layer" in label} == {"1", "4"}
    with pytest.raises(UsageError, match="does not come from a model family"):
        family_of(small)


def test_types_that_differ_are_named(mace, sevennet):
    with pytest.raises(LegalityError) as caught:
        irprune.run("drop-layers{layers=[0]}", sevennet)
    takes, gives = (sevennet.type_of(sevennet.labels[k]) for k in ("embedding", "layer 0"))
    assert str(caught.value) == (
        f"drop-layers: layer 0 takes in {takes} and gives {gives}: only a layer that gives the type"
        " that it takes in can be bypassed; choose another layer, or prune its channels"
    )
    with pytest.raises(LegalityError, match=r"layer 1 takes in .*4x0e.* and gives .*4x0e\+4x1o"):
        irprune.run("drop-layers{layers=[1]}", mace)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "",
            "drop-layers needs one of layers and count: write drop-layers{layers=[2,3]} or"
            " drop-layers{count=1}",
        ),
        ("{layers=[7]}", "drop-layers: layers=[7]: no layer 7; this model has layers 0, 1, 2"),
        (
            "{layers=[1,1]}",
            "drop-layers: layers=[1, 1]: a layer is named twice; this model has layers 0, 1, 2",
        ),
        ("{count=0}", "drop-layers: count must be 1 or more, got 0"),
        (
            "{count=2}",
            "drop-layers: count=2, but only 1 layers give the type that they take in; ask for fewer",
        ),
    ],
)
def test_errors(sevennet, options, message):
    with pytest.raises(UsageError) as caught:
        irprune.run(f"drop-layers{options}", sevennet)
    assert str(caught.value) == message


def test_the_layer_that_changes_forces_least_goes(mace):
    frames = sevennet_models.frames()[:1]
    small, report = irprune.api.run_reported("drop-layers{count=1}", mace, frames)
    (changes,) = report.results["layers"]
    assert set(changes) == {"layer 2", "layer 3"}
    least = min(changes, key=changes.get)
    assert not [label for label in small.labels if label.startswith(f"{least} ")]
    found = irprune.api.evaluate(small, frames, mace).force_mae_ev_per_a
    assert found == pytest.approx(changes[least], rel=1e-9)


# Correlation orders


def test_terms_of_high_order_are_gone(without_torchscript):  # noqa: F811
    graph = trace_family(MaceFamily(), wrap(build(**{**STYLES["heads"], "max_ell": 1}), ""))
    small = irprune.run("limit-correlation{order=2}", graph)
    assert small.stats().params < graph.stats().params
    zeroed = graph.module(torch.float64)
    for module in zeroed.modules():
        if type(module).__name__ == "Contraction":  # the highest order is the weights_max
            with torch.no_grad():
                module.weights_max.zero_()
    for seed in range(2):
        inputs = graph.example(seed=seed, grow=seed)
        a, b = small.module(torch.float64)(*inputs), zeroed(*inputs)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert (a - graph.module(torch.float64)(*inputs)).abs().max() > 1e-6
    native = native_mace(small)
    top = {int(p.symmetric_contractions.contractions[0].correlation) for p in native.products}
    assert top == {2}
    assert irprune.run("limit-correlation{order=2}", small).gm is small.gm
    parts = contraction.read(native.products[0].symmetric_contractions)
    assert {max(t.u) for t in parts} == {2}


def test_correlation_errors(sevennet):
    with pytest.raises(LegalityError) as caught:
        irprune.run("limit-correlation", sevennet)
    assert str(caught.value) == (
        "limit-correlation: this graph has no contractions, so no correlation orders to remove; leave"
        " the pass out"
    )
    with pytest.raises(UsageError) as caught:
        irprune.run("limit-correlation{order=0}", sevennet)
    assert str(caught.value) == "limit-correlation: order must be 1 or more, got 0"
