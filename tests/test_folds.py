"""Mutation tests: with any one fold, copied constant or coupling removed, masked ≢ sliced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.errors import IrpruneError
from irprune.ops import folds, tensor_product
from irprune.ops.gate import Gate, GateLike
from irprune.ops.indexing import GetItem, Narrow
from tests.handmade import error, trace, without

pytestmark = pytest.mark.usefixtures("unscripted")

X = {"x": "3x0e+2x1o"}


def linears():
    return trace(
        lambda self, x: self.b(self.a(x)),
        X,
        a=o3.Linear("3x0e+2x1o", "4x0e+3x1o"),
        b=o3.Linear("4x0e+3x1o", "1x0e+1x1o"),
    ), {"a:0e": [0, 2], "a:1o": [1]}


def fully_connected_product():
    return trace(
        lambda self, x: self.tp(self.a(x), x),
        X,
        a=o3.Linear("3x0e+2x1o", "4x0e+3x1o"),
        tp=o3.FullyConnectedTensorProduct("4x0e+3x1o", "3x0e+2x1o", "2x0e+1x1o"),
    ), {"a:0e": [1], "a:1o": [0, 2]}


def radial():
    return trace(
        lambda self, x: self.net(x),
        {"x": "3x0e"},
        net=enn.FullyConnectedNet([3, 6, 5, 2], torch.nn.functional.silu),
    ), {"net.hidden0": [0, 3], "net.hidden1": [1]}


def external():
    """Path weights from outside, so that the old coefficient must stay in the product."""
    tp = o3.TensorProduct(
        "4x0e",
        "3x0e+2x1o",
        "4x0e+4x1o",
        [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True)],
        shared_weights=False,
        internal_weights=False,
    )
    return trace(
        lambda self, x, y: self.tp(self.a(x), self.b(x), self.net(y)),
        {**X, "y": "2x0e"},
        a=o3.Linear("3x0e+2x1o", "4x0e"),
        b=o3.Linear("3x0e+2x1o", "3x0e+2x1o"),
        tp=tp,
        net=enn.FullyConnectedNet([2, 4, tp.weight_numel], torch.tanh),
    ), {"b:0e": [0, 1], "b:1o": [1]}


def generic_product():
    """A product that needs Wigner 3j symbols, made in float32."""
    return trace(
        lambda self, x: self.tp(self.a(x), x),
        X,
        a=o3.Linear("3x0e+2x1o", "2x0e+3x1o"),
        tp=o3.FullyConnectedTensorProduct("2x0e+3x1o", "3x0e+2x1o", "1x1e+1x2e"),
    ), {"a:1o": [0]}


def gate():
    g = enn.Gate("2x0e", [torch.tanh], "3x0e", [torch.sigmoid], "2x1o+1x1e")
    return trace(
        lambda self, x: self.b(self.g(self.a(x))),
        {"x": "3x0e+2x1o+2x1e"},
        a=o3.Linear("3x0e+2x1o+2x1e", g.irreps_in),
        g=g,
        b=o3.Linear(g.irreps_out, "1x0e+1x1o"),
    )


def columns():
    return trace(
        lambda self, x: self.c(self.a(x)[:, 2:11]) + self.d(self.a(x).narrow(1, 4, 1)),
        X,
        a=o3.Linear("3x0e+2x1o", "5x0e+2x1o"),
        c=o3.Linear("3x0e+2x1o", "1x0e"),
        d=o3.Linear("1x0e", "1x0e"),
    ), {"a:0e": [1, 2]}


def old_coefficients(muls1, muls2, dims, instructions):
    """Blind to the copies that went: what e3nn gives the unsliced product of ``external``."""
    return TRUE([4], [3, 2], dims, instructions)


GATE = Gate()
TRUE = folds.path_coefficients
MAKE = tensor_product.make


def plain_make(irreps, paths, coefficients, internal, shared):
    return MAKE(irreps, paths, None, internal, shared)


def reversed_make(irreps, paths, coefficients, internal, shared):
    back = None if coefficients is None else coefficients[::-1]
    return MAKE(irreps, paths[::-1], back, internal, shared)


def gates_apart(self, site, c):
    p = self.parts(site.module)
    c.same(c.operand(0)[p.scalars], c.out[p.out_scalars])
    c.same(c.operand(0)[p.gated], c.out[p.out_gated])


def unchanged(self, site, keep, args, kwargs):
    return args, kwargs


MUTATIONS = {
    "linear_path": (linears, folds, "linear_path", lambda a, b: 1.0),
    "linear_path-upside-down": (linears, folds, "linear_path", lambda a, b: b / a),
    "tensor_product_path": (
        fully_connected_product, folds, "tensor_product_path", lambda a, b: 1.0,
    ),
    "fan_in": (radial, folds, "fan_in", lambda a, b: 1.0),
    "fan_in-upside-down": (radial, folds, "fan_in", lambda a, b: (a / b) ** 0.5),
    "path_coefficients": (external, folds, "path_coefficients", old_coefficients),
    "explicit-coefficients": (external, tensor_product, "make", plain_make),
    "instruction-order": (fully_connected_product, tensor_product, "make", reversed_make),
    "instruction-order-external": (external, tensor_product, "make", reversed_make),
    "getitem-bounds": (columns, GetItem, "slice_call", unchanged),
    "narrow-bounds": (columns, Narrow, "slice_call", unchanged),
}  # fmt: skip


def without_first_gate(graph):
    """Removes the block of the gate's input that gates the first vector."""
    space = graph.blocks
    first = graph.gm.get_submodule("g")
    gate_unit = GATE.parts(first).gates[0]
    removed = np.zeros(space.n_classes, bool)
    removed[space.class_of[space.ids_of("a")[gate_unit]]] = True
    return graph.replace(keep=space.without(removed))


def test_a_gate_goes_with_the_block_that_it_gates(monkeypatch):
    graph = without_first_gate(gate())
    assert error(graph) <= 1e-12
    assert graph.type_of("g").kept(graph.elements()[graph.blocks.ids_of("g")]).irreps == (
        "2x0e+1x1o+1x1e"
    )
    monkeypatch.setattr(GateLike, "couple", gates_apart)
    graph = without_first_gate(gate())
    with pytest.raises(ValueError, match="a different number"):
        error(graph)


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_without_it_the_models_differ(name, monkeypatch):
    build, owner, attribute, mutant = MUTATIONS[name]
    graph = without(*build())
    assert not graph.keep.all()
    assert error(graph) <= 1e-12
    monkeypatch.setattr(owner, attribute, mutant)
    graph = without(*build())
    try:
        wrong = error(graph)
    except (IrpruneError, RuntimeError):
        return  # it does not even build, which is as loud
    assert wrong > 1e-3


def test_without_the_original_constants_the_models_differ(monkeypatch):
    """Wigner 3j symbols rounded to float32 stay rounded."""
    graph = without(*generic_product())
    assert error(graph) <= 1e-12
    monkeypatch.setattr(tensor_product, "copy_constants", lambda old, new: None)
    assert 1e-9 < error(graph) < 1e-6


def test_every_fold_is_mutated():
    import inspect

    named = {
        n
        for n, f in inspect.getmembers(folds, inspect.isfunction)
        if f.__module__ == folds.__name__
    }
    mutated = {name for _, owner, name, _ in MUTATIONS.values() if owner is folds}
    assert named == mutated | {"segmented_path"}  # ops/test_cueq
