"""spec → JSON → build → load_state_dict gives the module back, and slicing keeps its constants."""

from __future__ import annotations

import json

import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.errors import ExactnessError, UsageError
from irprune.ops.activations import name_of
from irprune.ops.base import load_builtin_ops, op_named, op_of_class
from irprune.ops.constants import copy_constants
from tests.handmade import error, op_at, single, trace, without
from tests.ops.cases import CASES, made

pytestmark = pytest.mark.usefixtures("unscripted")


def rebuilt(module):
    load_builtin_ops()
    op = op_of_class(type(module))
    spec = json.loads(json.dumps(op.spec(module)))
    made = op_named(op.name).build(spec).double()
    made.load_state_dict(module.state_dict(), strict=True)
    return made


@pytest.mark.parametrize("name", list(CASES))
def test_build_gives_the_module_back(name):
    module, inputs = made(name)
    graph = single(module, **inputs)
    args = graph.example(seed=1)
    if name == "one-hot":
        args = (args[0] % module.n,)
    other = rebuilt(module)
    assert other is not module
    assert torch.equal(module(*args), other(*args))
    op, _ = op_at(graph, "op")
    assert op.spec(other) == op.spec(module)


def perturb(module):
    """Moves every normalisation constant, as a checkpoint of another e3nn may have it."""
    found = 0
    for m in module.modules():
        if hasattr(m, "cst"):
            m.cst, m._is_id = m.cst * (1 + 1e-6), False
            found += 1
    assert found


@pytest.mark.parametrize("name", ["gate", "gate-odd", "activation", "fcn", "fcn-variances"])
def test_constants_come_from_the_spec(name):
    module, inputs = made(name)
    args = single(module, **inputs).example(seed=1)
    before = module(*args)
    perturb(module)
    assert not torch.equal(module(*args), before)
    assert torch.equal(rebuilt(module)(*args), module(*args))


def test_unnormalised_function_stays_so():
    module = enn.Activation("2x0e", [torch.tanh])
    module.acts[0]._is_id = True
    assert rebuilt(module)(torch.ones(1, 2)).tolist() == module(torch.ones(1, 2)).tolist()


@pytest.mark.parametrize("name", ["gate", "activation", "fcn"])
def test_slicing_keeps_perturbed_constants(name):
    module, inputs = made(name)
    perturb(module)
    first = o3.Linear("4x0e+2x1o+2x2e", inputs["x"])
    last = o3.Linear(module.irreps_out if hasattr(module, "irreps_out") else "2x0e", "0e")
    graph = trace(
        lambda self, x: self.last(self.op(self.first(x))),
        {"x": "4x0e+2x1o+2x2e"},
        first=first,
        op=module,
        last=last,
    )
    graph = without(graph, {"op.hidden0": [1, 3]} if name == "fcn" else {"op:0e#0": [1]})
    assert not graph.keep.all()
    assert error(graph) <= 1e-12


def test_scripted_modules_round_trip():
    """As users have them: with TorchScript inside."""
    import e3nn

    e3nn.set_optimization_defaults(jit_script_fx=True)
    try:
        for name in ("tp-uvu-external", "gate"):
            module, inputs = made(name)
            args = single(module, **inputs).example(seed=1)
            assert torch.equal(module(*args), rebuilt(module)(*args))
    finally:
        e3nn.set_optimization_defaults(jit_script_fx=False)


def test_float32_constants_survive_a_cast():
    """A float32 checkpoint cast to float64 keeps its rounded Wigner 3j symbols."""
    exact, _ = made("tp-uvu")
    module = made("tp-uvu")[0].float().double()
    with torch.no_grad():
        exact.weight.copy_(module.weight)
    args = single(module, x="3x0e+2x1o+1x2e", y="2x0e+1x1o").example(seed=1)
    assert not torch.equal(exact(*args), module(*args))
    assert torch.equal(rebuilt(module)(*args), module(*args))


def test_copy_constants_needs_every_constant():
    old = o3.TensorProduct("1o", "1o", "1e", [(0, 0, 0, "uvw", True)])
    new = o3.TensorProduct("1o", "1o", "2e", [(0, 0, 0, "uvw", True)])
    with pytest.raises(ExactnessError) as caught:
        copy_constants(old, new)
    assert str(caught.value) == (
        "the sliced module needs _compiled_main_left_right._w3j_1_1_2, which the original lacks"
    )


def test_unknown_activation_cannot_be_written():
    with pytest.raises(UsageError, match=r"is not one of silu, tanh, .*; it cannot be written"):
        name_of(torch.nn.functional.mish)


def test_linear_of_another_normalisation_is_refused():
    load_builtin_ops()
    spec = op_named("linear").spec(o3.Linear("2x0e", "3x0e"))
    spec["path_weights"][0] *= 1.1
    with pytest.raises(ExactnessError) as caught:
        op_named("linear").build(spec)
    assert str(caught.value) == (
        "this e3nn normalises Linear(2x0e -> 3x0e) differently from the one that wrote the file"
    )
