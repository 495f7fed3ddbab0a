"""The op holds what it promises; so does the pass."""

import torch
from saturation.layer import Saturation

import irprune
from irprune.testing import conform, random_irreps


def made(rng):
    irreps = random_irreps(rng)
    return Saturation(irreps), {"x": irreps}


def test_the_op_conforms():
    conform(made)


def test_the_pass_rounds():
    layer = Saturation("4x0e+2x1o").double()
    torch.nn.init.normal_(layer.weight)
    graph = irprune.trace(torch.nn.Sequential(layer), {"input": "4x0e+2x1o"})
    (weight,) = irprune.run("round-weights{bits=3}", graph).gm.parameters()
    mantissa, _ = torch.frexp(weight)
    assert torch.equal((mantissa * 8).round(), mantissa * 8)
    assert (weight - layer.weight).abs().max() > 0
    assert torch.allclose(weight, layer.weight, rtol=1 / 8)
