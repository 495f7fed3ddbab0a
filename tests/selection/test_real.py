"""Selection on the pretrained models: every kind of axis, and budgets with alignment."""

from __future__ import annotations

import pytest

import irprune
from irprune.errors import LegalityError

pytestmark = [pytest.mark.real, pytest.mark.slow]
FILES = {"mace-mp-0": "mace_mp_0_small.model", "mace-ge-sb-te": "mace_GeSbTe_L1.model"}
MODELS = ("7net-0", *FILES)


@pytest.fixture(scope="module", params=MODELS)
def scored(request):
    name = request.param
    if name in FILES:
        name = str(request.getfixturevalue("shared") / "checkpoints" / FILES[name])
    return irprune.run("score{by=random}", irprune.load(name, trust=True))


@pytest.mark.parametrize("kind", ["channel", "radial", "path", "edge", "order"])
def test_every_kind_of_axis(scored, kind):
    axes = [a for a in scored.axes() if a.kind == kind]
    if not axes:
        assert kind == "order"  # SevenNet's messages have copies of irreps, no orders of their own
        assert scored.source.family == "sevennet"
        return
    masked = irprune.run(f"select{{keep=0.7,axes=[{kind}]}}", scored, target="graph")
    gone = {a.kind for a in axes if not masked.keep[list(a.groups)].all()}
    assert gone == {kind}
    small = irprune.run("slice", masked)
    assert small.stats().params < scored.stats().params
    assert small.stats().flops_per_atom < scored.stats().flops_per_atom


@pytest.mark.parametrize(
    ("options", "quantity"),
    [
        ("params=50%,axes=[channel,radial]", "params"),
        ("flops=40%,axes=[channel,radial],align=2,minimum=4,scope=layer", "flops_per_atom"),
    ],
)
def test_budgets(scored, options, quantity):
    small = irprune.run(f"select{{{options}}},slice", scored)
    goal = float(options.split("=")[1].split("%")[0]) / 100
    share = getattr(small.stats(), quantity) / getattr(scored.stats(), quantity)
    assert abs(share - goal) <= 0.02 * goal


def test_whole_channels_of_mace_are_coarse(scored):
    """Sixteen channels at once pass half of the FLOPs by: both sides are named."""
    if scored.source.family != "mace":
        irprune.run("select{flops=50%,align=16}", scored)
        return
    with pytest.raises(LegalityError) as caught:
        irprune.run("select{flops=50%,align=16}", scored)
    assert "within 2 %: the nearest that were found have " in str(caught.value)
    assert str(caught.value).count(" in embedding") == 2


def test_correlation_and_depth(scored):
    if scored.source.family == "mace":
        small = irprune.run("limit-correlation{order=1}", scored)
        assert small.stats().params < scored.stats().params
        return
    small = irprune.run("drop-layers{layers=[2,3]}", scored)
    assert list(small.irreps_per_layer()) == ["embedding", "layer 0", "layer 1", "layer 2"]
    assert small.irreps_per_layer()["layer 2"] == scored.irreps_per_layer()["layer 4"]
    irprune.families.family_of(small).legal(small)
