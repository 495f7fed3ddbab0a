"""The reference's tables: copied once, and usable wherever the first call was made."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from irprune.irreps import Layout
from irprune.specs import clebsch
from irprune.specs.path import PathSpec
from tests.kernels.specs import spec_named

pytestmark = pytest.mark.usefixtures("unscripted")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(clebsch, "_KEPT", {})


def rows(spec, n=3, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    sizes = (spec.dims[0], spec.dims[1], spec.n_weights)
    return [torch.randn(n, s, generator=g, dtype=dtype).requires_grad_() for s in sizes]


def written_number_by_number(spec, x, y, w):
    out = x.new_zeros(x.shape[0], spec.dims[2])
    a0, b0, c0 = (spec.offsets(part) for part in (spec.in1, spec.in2, spec.out))
    for p in spec.paths:
        a, c = spec.in1[p.i1], spec.out[p.out]
        for u in range(a.mul):
            for m1, m2, m3, value in p.coupling:
                made = p.coefficient * value * w[:, p.weight + u] * y[:, b0[p.i2] + m2]
                made = made * x[:, a0[p.i1] + u * a.dim + m1]
                out[:, c0[p.out] + u * c.dim + m3] += made
    return out


@pytest.mark.parametrize("name", ["odd", "shared", "order 3"])
def test_tables_hold_the_couplings(name):
    spec = spec_named(name)
    given = rows(spec)
    wanted = written_number_by_number(spec, *(t.detach() for t in given))
    assert torch.allclose(spec.evaluate(*given), wanted, rtol=1e-12, atol=1e-12)
    for p, table in zip(spec.paths, clebsch.tables(spec, given[0]), strict=True):
        found = [(*map(int, at), float(table[tuple(at)])) for at in table.nonzero()]
        assert found == [c for c in p.coupling if c[3]]


class Names(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.found.append(f._schema.name)
        return f(*args, **(kwargs or {}))


def test_nothing_is_copied_after_the_first_call():
    spec = spec_named("odd").in_layout(Layout.IR_MUL)
    given = rows(spec, dtype=torch.float32)
    made = spec.evaluate(*given)
    with Names() as names:
        again = spec.evaluate(*given)
    copies = {"aten::copy_", "aten::fill_", "aten::_to_copy", "aten::lift_fresh"}
    assert "aten::bmm" in names.found
    assert not copies & set(names.found)
    assert torch.equal(made, again)


def test_one_copy_for_all_paths():
    spec = spec_named("odd")
    with Names() as names:
        clebsch.tables(spec, torch.zeros(1))
    assert len(spec.paths) > 3
    assert names.found.count("aten::_to_copy") == 1


def _in_inference_mode(spec, given):
    with torch.inference_mode():
        spec.evaluate(*(t.detach() for t in given))


def _on_tensors_without_values(spec, given):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        spec.evaluate(*(mode.from_tensor(t.detach()) for t in given))


def _traced(spec, given):
    plain = [t.detach() for t in given]
    graph = make_fx(lambda *a: spec.evaluate(*a), tracing_mode="symbolic")(*plain)
    assert torch.equal(graph(*plain), spec.evaluate(*plain))


def _mapped(spec, given):
    torch.vmap(spec.evaluate)(*(t.detach().unsqueeze(1) for t in given))


@pytest.mark.parametrize(
    "first", [_in_inference_mode, _on_tensors_without_values, _traced, _mapped]
)
@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
def test_what_was_kept_elsewhere_has_gradients_here(first, before):
    spec = spec_named("shared")
    given = rows(spec)
    if before:
        spec.evaluate(*given)
    first(spec, given)
    assert torch.autograd.gradcheck(spec.evaluate, given)
    assert all(type(t) is torch.Tensor for kept in clebsch._KEPT.values() for t in kept)


def test_a_product_without_paths():
    spec = PathSpec(spec_named("odd").in1, spec_named("odd").in2, spec_named("odd").out, (), 0)
    assert torch.count_nonzero(spec.evaluate(*rows(spec))) == 0


def test_no_more_are_kept_than_a_limit(monkeypatch):
    monkeypatch.setattr(clebsch, "MOST", 2)
    for name in ("odd", "shared", "order 3"):
        clebsch.tables(spec_named(name), torch.zeros(1))
        assert 1 <= len(clebsch._KEPT) <= 2
