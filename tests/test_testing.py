"""The conformance kit: our own ops hold it, and an op with any one thing wrong does not."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

from irprune.errors import CheckFailed, UsageError
from irprune.layers.scale import ComponentScale, ComponentShift
from irprune.ops import base, installed
from irprune.ops.base import OpDef, qualified, register_op
from irprune.ops.linear import kept_irreps, segment_masks
from irprune.testing import CHECKS, conform, findings, random_irreps

pytestmark = pytest.mark.usefixtures("unscripted")


def scalars(rng):
    return f"{rng.integers(2, 6)}x0e"


def linear(rng):
    a = random_irreps(rng)
    return o3.Linear(a, random_irreps(rng) + "+" + a), {"x": a}


def torch_linear(rng):
    a = scalars(rng)
    return nn.Linear(o3.Irreps(a).dim, 4), {"x": a}


def fctp(rng):
    a, b = random_irreps(rng, lmax=1), random_irreps(rng, lmax=1, mul=2)
    out = o3.Irreps([x for x in o3.FullTensorProduct(a, b).irreps_out if x.ir.l < 2])
    return o3.FullyConnectedTensorProduct(a, b, out), {"x": a, "y": b}


def gate(rng):
    n = int(rng.integers(1, 4))
    made = enn.Gate("3x0e+2x0o", [torch.sigmoid, torch.tanh], f"{n}x0e", [torch.sigmoid], f"{n}x1o")
    return made, {"x": str(made.irreps_in)}


def activation(rng):
    return enn.Activation("3x0e+2x0o+1x1o", [torch.tanh, torch.abs, None]), {"x": "3x0e+2x0o+1x1o"}


def radial(rng):
    n = int(rng.integers(2, 5))
    return enn.FullyConnectedNet([n, 5, 4], torch.nn.functional.silu), {"x": f"{n}x0e"}


def batch_norm(rng):
    irreps = random_irreps(rng)
    made = enn.BatchNorm(irreps)
    nn.init.normal_(made.running_mean)
    nn.init.uniform_(made.running_var, 0.5, 2.0)
    return made, {"x": irreps}


def norm_activation(rng):
    irreps = random_irreps(rng)
    return enn.NormActivation(o3.Irreps(irreps), torch.sigmoid, bias=True), {"x": irreps}


def norms(rng):
    irreps = random_irreps(rng)
    return o3.Norm(irreps), {"x": irreps}


def dropout(rng):
    irreps = random_irreps(rng)
    return enn.Dropout(irreps, 0.3), {"x": irreps}


def layer_norm(rng):
    a = scalars(rng)
    return nn.LayerNorm(o3.Irreps(a).dim), {"x": a}


def scale(rng):
    irreps = random_irreps(rng)
    dims = torch.tensor([ir.dim for mul, ir in o3.Irreps(irreps) for _ in range(mul)])
    numbers = torch.from_numpy(rng.normal(size=len(dims)))
    return ComponentScale(numbers.repeat_interleave(dims)), {"x": irreps}


def shift(rng):
    a = scalars(rng)
    return ComponentShift(nn.Parameter(torch.zeros(o3.Irreps(a).dim))), {"x": a}


def embedding(rng):
    return nn.Embedding(9, int(rng.integers(2, 6))), {"x": "index"}


OWN = {
    f.__name__: f
    for f in (
        linear, torch_linear, fctp, gate, activation, radial, batch_norm, norm_activation, norms,
        dropout, layer_norm, scale, shift, embedding,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", list(OWN))
def test_our_own_ops_conform(name):
    conform(OWN[name], seeds=(1,))


# An op with something wrong


class Halved(nn.Module):
    """Each block times its own number, plus nothing."""

    def __init__(self, irreps):
        super().__init__()
        self.irreps_in = o3.Irreps(irreps)
        self.weight = nn.Parameter(torch.ones(self.irreps_in.num_irreps))

    def forward(self, x):
        dims = torch.tensor([ir.dim for mul, ir in self.irreps_in for _ in range(mul)])
        return x * self.weight.repeat_interleave(dims)

    def cut(self, mask, weight):
        """The blocks in the mask, with the weights given."""
        small = Halved(kept_irreps(self.irreps_in, segment_masks(self.irreps_in, mask))[0])
        small.weight = nn.Parameter(weight.detach())
        return small


class Right(OpDef):
    name = "halved"
    targets = (qualified(Halved),)

    def infer(self, site):
        return site.expect(0, str(site.module.irreps_in))

    def slice(self, site, keep):
        mask = keep.operand(0)
        return site.module.cut(mask, site.module.weight[torch.from_numpy(mask)])

    def cost(self, site, keep):
        return base.Cost(int(keep.operand(0).sum()), 1.0)

    def spec(self, module):
        return {"irreps": str(module.irreps_in)}

    def build(self, spec):
        return Halved(spec["irreps"])


class WrongSlice(Right):
    def slice(self, site, keep):
        mask = keep.operand(0)
        return site.module.cut(mask, site.module.weight[: int(mask.sum())])


class WrongCost(Right):
    def cost(self, site, keep):
        return base.Cost(1, 1.0)


class WrongSpec(Right):
    def build(self, spec):
        return Halved(str(o3.Irreps(spec["irreps"]).simplify()) + "+1x0e")


class WrongZeros(Right):
    def nonzero(self, site, nz, axes):
        return np.zeros_like(nz[0])


class WrongNeeds(Right):
    def needed(self, site, need, nz, axes):
        return [np.zeros_like(need)], {}


class WrongReference(Right):
    def reference(self, site, args):
        return args[0]


class WrongTrait(Right):
    trait = base.Trait.APPROXIMATE


WRONG = {
    WrongSlice: {"masked-sliced"},
    WrongCost: {"cost"},
    WrongSpec: {"file"},
    WrongZeros: {"nonzero"},
    WrongNeeds: {"needed"},
    WrongReference: {"reference"},
    WrongTrait: {"trait"},
}


@pytest.fixture
def registered(monkeypatch):
    """Registers an op for the time of a test."""
    base.load_builtin_ops()
    for table in ("_BY_CLASS", "_BY_CALL", "_BY_NAME"):
        monkeypatch.setattr(base, table, dict(getattr(base, table)))
    return register_op


def halved(rng):
    irreps = "3x0e+2x1o+2x0e"
    return Halved(irreps), {"x": irreps}


def test_the_right_op_conforms(registered):
    registered(Right)
    conform(halved)


@pytest.mark.parametrize("cls", list(WRONG), ids=lambda c: c.__name__)
def test_a_wrong_op_is_found(registered, cls):
    registered(cls)
    failed = {f.check for f in findings(halved, seeds=(0,)) if not f.ok}
    assert WRONG[cls] <= failed, failed


class NotEquivariant(Halved):
    def forward(self, x):
        return super().forward(x) + torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)


def test_a_layer_that_is_not_equivariant_is_found(registered):
    registered(Right)
    made = lambda rng: (NotEquivariant("3x0e+2x1o"), {"x": "3x0e+2x1o"})  # noqa: E731
    with pytest.raises(CheckFailed) as caught:
        conform(made, seeds=(0,))
    text = str(caught.value)
    assert text.startswith("op halved does not conform:\n  ")
    assert "equivariance (seed 0): " in text
    assert "; promised: f(D x) = D f(x) for a random rotation, with and without inversion." in text


def test_usage(registered):
    with pytest.raises(UsageError) as caught:
        list(findings(halved, seeds=(0,)))
    assert str(caught.value) == "no op is registered for tests.test_testing.Halved"
    registered(Right)
    with pytest.raises(UsageError) as caught:
        list(findings(halved, skip=("files",)))
    assert str(caught.value) == f"unknown check files; known are {', '.join(CHECKS)}"


def test_two_ops_cannot_have_one_name_or_one_target(registered):
    registered(Right)
    with pytest.raises(UsageError, match="an op named 'halved' is already registered"):
        registered(WrongCost)
    other = type("Other", (Right,), {"name": "other"})
    with pytest.raises(UsageError) as caught:
        registered(other)
    assert str(caught.value) == (
        "op 'other' stands for tests.test_testing.Halved, which op 'halved' already does"
    )
    assert "other" not in base._BY_NAME


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "halved",
            "no_such_package.ops:Halved",
            "op 'halved' is installed as no_such_package.ops:Halved but cannot be loaded:"
            " ModuleNotFoundError: No module named 'no_such_package'",
        ),
        (
            "halved",
            "tests.test_testing:Halved",
            "entry point 'halved' = tests.test_testing:Halved is not a registered op of that name;"
            " decorate its class with @irprune.register_op",
        ),
    ],
)
def test_installed_ops_that_are_wrong_are_told(monkeypatch, name, value, message):
    entry = EntryPoint(name, value, installed.GROUP)
    monkeypatch.setattr(installed, "entry_points", lambda group: [entry])
    with pytest.raises(UsageError) as caught:
        installed.load_ops()
    assert str(caught.value) == message


def test_an_installed_op_is_loaded_once(monkeypatch, registered):
    registered(Right)
    entry = EntryPoint("halved", "tests.test_testing:Right", installed.GROUP)
    monkeypatch.setattr(installed, "entry_points", lambda group: [entry])
    monkeypatch.setattr(installed, "_loaded", set())
    installed.load_ops()
    installed.load_ops()
    assert installed._loaded == {("halved", "tests.test_testing:Right")}


def test_random_irreps_are_repeatable_and_varied():
    made = {random_irreps(np.random.default_rng(s)) for s in range(20)}
    assert made == {random_irreps(np.random.default_rng(s)) for s in range(20)}
    assert len(made) > 15
    assert any(o3.Irreps(t).lmax == 2 for t in made)
