"""benchmarks/gpu: what is in the race, and that the others run as stock models run them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import choice, kernels
from benchmarks.gpu.choice import choose, neighbours, widths
from benchmarks.gpu.correctness import errors_of
from benchmarks.gpu.device import Device
from benchmarks.gpu.shapes import LAYERS, spec_of
from benchmarks.gpu.stock import cueq_kernel, e3nn_kernel
from irprune.irreps import Layout
from irprune.kernels.triton.config import (
    Config,
    config_for,
    configs,
    default,
    own_pins,
)
from irprune.kernels.tuner.stage2 import problem

pytestmark = pytest.mark.usefixtures("unscripted")

CPU = torch.device("cpu")
SMALL = next(layer for layer in LAYERS if layer.name == "mace-small")
F32 = torch.float32


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_every_width_is_in_the_race(layer):
    """What the shipped table calls the fastest has 64 or 128 channels; so must the race."""
    spec = spec_of(layer)
    served = Config(64, 2, 3, "csr")
    found = widths(spec, served)
    assert found[0] == served
    assert {c.block for c in found} == {32, 64, 128}
    assert default(spec) in found
    assert len(found) == 4
    assert set(found) <= set(configs(spec))


def test_a_narrow_layer_has_its_default_in_the_race():
    spec = spec_of(SMALL, 0.1, "odd")
    assert [c.block for c in widths(spec, default(spec))] == [16]


def test_neighbours_change_one_thing():
    spec = spec_of(SMALL)
    best = Config(128, 1, 1, "csr")
    assert neighbours(spec, best) == [
        Config(128, 1, 2, "csr"), Config(128, 1, 3, "csr"), Config(128, 1, 1, "atomic")
    ]  # fmt: skip


def raced(seconds, failed=None, rounds=3):
    """The choice of a GPU on which a configuration takes so many seconds, or raises."""
    spec = spec_of(SMALL)

    def timer(call):
        call()
        made = seconds(config_for(spec, F32))
        if made is None:
            raise torch.OutOfMemoryError("shared memory")
        return made

    device = Device("a fake GPU", CPU, timer, 1e9)
    failed = {} if failed is None else failed
    with own_pins():
        best = choose(spec, F32, default(spec), lambda: None, device, failed, rounds)
        assert best is None or config_for(spec, F32) == best
    return best


def test_the_fastest_of_both_races_is_pinned():
    best = raced(lambda c: abs(c.block - 128) + abs(c.stages - 2) / 2 + (c.variant == "atomic"))
    assert best == Config(128, 1, 2, "csr")


def test_what_is_not_compiled_takes_no_part():
    spec, left = spec_of(SMALL), []
    device = Device(
        "a fake GPU", CPU, lambda call: call() or 4.0 - config_for(spec, F32).stages, 1e9
    )
    with own_pins():
        best = choose(
            spec, F32, default(spec), lambda: None, device, {}, 1, lambda c: c.stages < 3, left
        )
    assert best.stages == 2
    assert left == [str(Config(best.block, best.warps, 3, "csr"))]


def test_configurations_that_do_not_run_are_left_out():
    failed = {}
    best = raced(lambda c: 1.0 / c.block if c.block < 128 and c.stages == 1 else None, failed)
    assert best in (Config(64, 1, 1, "csr"), Config(64, 1, 1, "atomic"))
    assert set(failed) == {
        "triton block=128,warps=1,stages=1,variant=csr",
        "triton block=64,warps=1,stages=2,variant=csr",
        "triton block=64,warps=1,stages=3,variant=csr",
    }
    assert raced(lambda c: None) is None


def indexed(function):
    """Names of the operators that look rows up or add to them, with the shapes of what they touch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            if f._schema.name in ("aten::index", "aten::index_put", "aten::_index_put_impl_"):
                found.append(tuple(args[0].shape))
            return f(*args, **(kwargs or {}))

    with Seen():
        function()
    return found


def test_e3nn_does_not_copy_the_weights():
    spec = spec_of(SMALL, 0.25, "odd")
    given = problem(spec, F32, CPU, 4, 12)
    kernel = e3nn_kernel(SMALL, 0.25, "odd", given.operands[0])
    made = indexed(lambda: kernel(*given.operands, given.index).sum().backward())
    assert tuple(given.operands[0].shape) in made
    assert tuple(given.operands[2].shape) not in made


@pytest.mark.parametrize("layout", [Layout.MUL_IR, Layout.IR_MUL])
def test_cuequivariance_is_given_weights_without_rows(layout, monkeypatch):
    spec = spec_of(SMALL, 0.25, "odd").in_layout(layout)
    given = problem(spec, F32, CPU, 4, 12)
    kernel = cueq_kernel(spec, given.operands[0])
    seen = []
    inner = kernel.product.product
    real = inner.forward
    monkeypatch.setattr(inner, "forward", lambda *a: seen.append(set(a[1])) or real(*a))
    found = errors_of(spec, kernel, (*given.operands, given.index))
    assert max(found.values()) < 2e-6
    assert seen == [{1}]


def test_both_layouts_of_what_works_in_ir_mul(monkeypatch):
    spec = spec_of(SMALL, 0.25, "odd")
    names = ["triton", "cuequivariance", "reference"]
    monkeypatch.setattr(kernels, "serving", lambda *a: (names, {}))
    monkeypatch.setattr(kernels, "kernel_for", lambda spec, like, name: (name, spec.layout))
    monkeypatch.setattr(kernels, "e3nn_kernel", lambda *a: 1 // 0)
    specs = {"": spec, kernels.IN_PLACE: spec.in_layout(Layout.IR_MUL)}
    failed = {}
    found, _ = kernels.kernels_of(SMALL, 0.25, "odd", specs, torch.zeros(1), failed)
    assert failed == {"e3nn": "ZeroDivisionError: integer division or modulo by zero"}
    assert list(found) == ["triton", "triton ir_mul", "cuequivariance",
                           "cuequivariance ir_mul", "reference"]  # fmt: skip
    assert found["triton ir_mul"][0] == ("triton", Layout.IR_MUL)
    assert all(
        own.layout.value in (name.split()[1:] or ["mul_ir"]) for name, (_, own) in found.items()
    )
    assert choice.rows_of(problem(spec, F32, CPU, 4, 12)) == 12
