"""MACE's layers one by one: references, slices, and what a graph file keeps of them."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from torch import fx

from irprune.errors import ExactnessError, IrrepsTypeError
from irprune.families.mace import contraction
from irprune.families.mace.ops_contraction import SymmetricContraction, support_of
from irprune.ops.base import Keep, op_of_node
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture
from tests.families.test_mace_capture import graph_of

NAMES = ("omat", "bias", "agnostic", "heads")


class Recorder(fx.Interpreter):
    def __init__(self, gm):
        super().__init__(gm)
        self.arguments, self.values = {}, {}

    def run_node(self, n):
        value = super().run_node(n)
        self.arguments[n.name] = fx.map_arg(n.args, lambda x: self.env[x])
        self.values[n.name] = value
        return value


@functools.cache
def recorded(name):
    graph = graph_of(name)
    run = Recorder(graph.gm)
    with torch.no_grad():
        run.run(*graph.example(seed=4, grow=2))
    return graph, run


def mace_sites(graph):
    for site in graph.sites.values():
        if site.node.op == "call_module":
            op = op_of_node(site.node, site.module)
            if op.name.startswith("mace-"):
                yield site, op


@pytest.mark.parametrize("name", NAMES)
def test_references(name):
    graph, run = recorded(name)
    checked = set()
    for site, op in mace_sites(graph):
        with torch.no_grad():
            want = op.reference(site, run.arguments[site.node.name])
        if want is not None:
            got = run.values[site.node.name]
            assert torch.allclose(want, got, rtol=1e-12, atol=1e-12), site.where
            checked.add(op.name)
    assert {"mace-contraction", "mace-reshape", "mace-atomic-energies"} <= checked


@pytest.mark.parametrize("name", NAMES)
def test_spec_and_build(name):
    graph, run = recorded(name)
    for site, op in mace_sites(graph):
        spec = json.loads(json.dumps(op.spec(site.module)))
        made = op.build(spec).to(torch.float64)
        made.load_state_dict(site.module.state_dict(), strict=True)
        with torch.no_grad():
            again = made(*run.arguments[site.node.name])
        want = run.values[site.node.name]
        pairs = zip(again, want, strict=True) if isinstance(want, tuple) else [(again, want)]
        for a, b in pairs:
            assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-13, atol=1e-14), (
                site.where
            )


def units_of(t, rng, share):
    return np.array(rng.random(t.n_units) >= share)


def as_tensor(t, mask):
    """A unit mask as a row of factors."""
    return torch.from_numpy(t.components(mask).astype(float))


@pytest.mark.parametrize("seed", [0, 1])
def test_gate_slice(seed):
    graph, run = recorded("bias")
    site, op = next(s for s in mace_sites(graph) if s[1].name == "mace-gate")
    rng = np.random.default_rng(seed)
    parts = op.parts(site.module)
    mask = units_of(site.irreps(0), rng, 0.4)
    mask[parts.gates] = mask[parts.gated]
    out = np.concatenate([mask[parts.scalars], mask[parts.gated]])
    small = op.slice(site, Keep((mask,), out))
    x = run.arguments[site.node.name][0]
    keep_in = torch.from_numpy(site.irreps(0).components(mask))
    keep_out = torch.from_numpy(site.result.components(out))
    got, want = small(x[:, keep_in]), site.module(x)[:, keep_out]
    assert torch.allclose(got, want, rtol=1e-14, atol=0)


def test_gate_of_a_dead_block_is_not_needed():
    graph, _ = recorded("bias")
    site, op = next(s for s in mace_sites(graph) if s[1].name == "mace-gate")
    parts = op.parts(site.module)
    nz = np.ones(site.irreps(0).n_units, bool)
    nz[parts.gated[0]] = False
    need = op.needed(site, np.ones(site.result.n_units, bool), [nz], {})[0][0]
    assert not need[parts.gates[0]]
    assert need[parts.gates[1]]
    nz = np.ones_like(nz)
    nz[parts.gates[0]] = False
    assert op.nonzero(site, [nz], {}).all(), "a dead gate is sigmoid(0), not zero"


def test_radial_mlp_slice():
    graph, run = recorded("bias")
    site, op = next(s for s in mace_sites(graph) if s[1].name == "mace-radial-mlp")
    rng = np.random.default_rng(0)
    rows, cols = units_of(site.irreps(0), rng, 0.3), units_of(site.result, rng, 0.5)
    axes = {k: np.ones(n, bool) for k, n in op.axes(site).items()}
    small = op.slice(site, Keep((rows,), cols, axes))
    x = run.arguments[site.node.name][0]
    with torch.no_grad():
        want = site.module(x * torch.from_numpy(rows))[:, cols]
        assert torch.allclose(small(x[:, rows]), want, rtol=1e-13, atol=1e-14)


def test_radial_mlp_neurons_are_frozen_and_say_why():
    graph = graph_of("bias")
    span = graph.blocks.spans["model_interactions_0_conv_tp_weights", "hidden0"]
    assert "LayerNorm" in graph.blocks.fixed[int(span.ids[0])]


def contraction_site(name="heads", layer=0):
    graph, run = recorded(name)
    node = f"model_products_{layer}_symmetric_contractions"
    return graph.sites[node], run.arguments[node]


def contraction_keep(site, orders, channels, orders_out):
    orders, channels, orders_out = (np.array(m, bool) for m in (orders, channels, orders_out))
    x = np.outer(orders, channels).reshape(-1)
    out = np.outer(orders_out, channels).reshape(-1)
    elements = np.ones(site.irreps(1).n_units, bool)
    return Keep((x, elements), out, {"order_out": orders_out})


MASKS = [
    ([1, 1, 1], [1, 0, 1, 1, 0, 1], [1, 1]),
    ([1, 1, 0], [1, 1, 1, 1, 1, 1], [1, 1]),
    ([1, 0, 1], [1, 1, 0, 0, 1, 1], [1, 0]),
    ([0, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1]),
    ([1, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0]),
]


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize(("orders", "channels", "orders_out"), MASKS)
def test_contraction_slice(orders, channels, orders_out, reduced):
    site, (x, y) = contraction_site()
    if reduced:
        site = with_reduced_basis(site)
    orders, channels, orders_out = (np.array(m, bool) for m in (orders, channels, orders_out))
    small = SymmetricContraction().slice(site, contraction_keep(site, orders, channels, orders_out))
    components = np.repeat(orders, [1, 3, 5])
    masked = x * torch.from_numpy(np.outer(channels, components).astype(float))
    with torch.no_grad():
        full = site.module(masked, y)
        got = small(x[:, channels][:, :, components], y)
    keep = site.result.components(np.outer(orders_out, channels).reshape(-1))
    want = full[:, torch.from_numpy(keep)]
    scale = float(full.abs().max())
    assert float((want - got).abs().max()) <= 1e-14 * scale
    assert scale > 1e-3
    sizes = {
        str(ir): c.weights_max.shape[1]
        for (_, ir), c in zip(small.irreps_out, small.contractions, strict=True)
    }
    irreps = "+".join(f"1x{ir}" for _, ir in small.irreps_in)
    for ir, n in sizes.items():
        assert n == contraction.class_basis(irreps, ir, 3, reduced).shape[-1]


def with_reduced_basis(site):
    """The site with a contraction whose tensors are symmetric, as use_reduced_cg makes them."""
    m = site.module
    torch.manual_seed(5)
    parts = []
    single = "+".join(f"1x{ir}" for _, ir in m.irreps_in)
    for t in contraction.read(m):
        u = {nu: contraction.class_basis(single, t.ir, nu, True) for nu in t.u}
        w = {nu: torch.randn(t.w[nu].shape[0], u[nu].shape[-1], 6, dtype=torch.float64) for nu in u}
        parts.append(contraction.Terms(t.l, t.p, u, w))
    made = contraction.assemble(str(m.irreps_in), str(m.irreps_out), parts)
    assert contraction.is_symmetric(contraction.read(made))
    return type(site)(site.node, made, site.operands, site.types, site.out)


def first_terms(nu_dtype=torch.float64):
    site, (x, y) = contraction_site()
    return contraction.read(site.module)[1], x, y


def test_projection_changes_the_basis_and_not_the_polynomial():
    terms, x, y = first_terms()
    single = "1x0e+1x1o+1x2e"
    moved = contraction.rebase(terms, single, True, "here")
    assert moved.u[3].shape[-1] < terms.u[3].shape[-1]
    want, got = (contraction.evaluate([t], x, y) for t in (terms, moved))
    assert torch.allclose(want, got, rtol=1e-11, atol=1e-12)
    assert contraction.rebase(terms, single, False, "here").u[3] is terms.u[3]


def test_projection_of_tensors_rounded_to_float32_stays_exact():
    terms, x, y = first_terms()
    single = "1x0e+1x1o+1x2e"
    reduced = contraction.rebase(terms, single, True, "here")
    rounded = contraction.Terms(
        terms.l, terms.p, {k: (1.3 * u.float()).double() for k, u in reduced.u.items()}, reduced.w
    )
    moved = contraction.rebase(rounded, single, False, "here")
    want, got = (contraction.evaluate([t], x, y) for t in (rounded, moved))
    assert float((want - got).abs().max()) < 1e-12 * float(want.abs().max())


@pytest.mark.parametrize("reduced", [False, True])
def test_wrong_basis_is_refused(reduced):
    """A tensor outside the space that mace builds: another convention, or a damaged file."""
    terms, *_ = first_terms()
    generator = torch.Generator().manual_seed(0)
    for nu in (2, 3):
        u = dict(terms.u)
        noise = torch.randn(u[nu].shape, generator=generator, dtype=torch.float64)
        u[nu] = u[nu] + 1e-3 * noise
        with pytest.raises(ExactnessError, match=rf"here: correlation order {nu}, output 1o"):
            contraction.rebase(
                contraction.Terms(terms.l, terms.p, u, terms.w), "1x0e+1x1o+1x2e", reduced, "here"
            )


def test_basis_of_other_irreps_is_refused():
    terms, *_ = first_terms()
    with pytest.raises(ExactnessError, match="here: correlation order"):
        contraction.rebase(terms, "1x0e+1x1o+1x2o", False, "here")
    with pytest.raises(ExactnessError, match="components"):
        contraction.rebase(terms, "1x0e+1x1o", False, "here")


def test_too_small_a_basis_leaves_a_residual():
    terms, *_ = first_terms()
    basis = contraction.class_basis("1x0e+1x1o+1x2e", "1o", 3, True)[..., :-1]
    with pytest.raises(ExactnessError, match="residual"):
        contraction.project(terms.u[3], terms.w[3], basis, "here")


def test_restrict_drops_zero_paths():
    terms, *_ = first_terms()
    kept = contraction.restrict(terms, np.repeat([True, False, True], [1, 3, 5]), np.ones(6, bool))
    assert not kept.u[1].any()  # a vector needs a vector at first order
    assert not kept.w[1].any()
    assert kept.u[1].shape == (3, 6, 1)


def test_support_is_read_from_the_tensors():
    site, _ = contraction_site()
    scalars, vectors = support_of(site.module)
    assert scalars[1].combos.tolist() == [[0]]
    assert vectors[1].combos.tolist() == [[1]]
    assert {tuple(c) for c in vectors[2].combos} == {(0, 1), (1, 0), (1, 2), (2, 1)}


def test_contraction_liveness():
    site, _ = contraction_site()
    op = SymmetricContraction()
    nz = np.ones((3, 6), bool)
    nz[1, 2] = False  # no vector in channel 2: no vector comes out of it
    elements = np.ones(3, bool)
    axes = {"order_out": np.ones(2, bool)}
    out = op.nonzero(site, [nz.reshape(-1), elements], axes).reshape(2, 6)
    assert out[0].all()
    assert out[1].tolist() == [True, True, False, True, True, True]
    need = np.zeros((2, 6), bool)
    need[1, 0] = True
    (read, _), used = op.needed(site, need.reshape(-1), [np.ones(18, bool), elements], axes)
    assert read.reshape(3, 6)[:, 0].all()
    assert not read.reshape(3, 6)[:, 1:].any()
    assert used["order_out"].tolist() == [False, True]


def test_contraction_masks_must_be_rectangular():
    site, _ = contraction_site()
    keep = contraction_keep(site, [1, 1, 1], np.ones(6, bool), [1, 1])
    ragged = keep.operand(0).copy()
    ragged[0] = False
    with pytest.raises(ExactnessError, match="whole channels"):
        SymmetricContraction().slice(site, Keep((ragged, keep.operand(1)), keep.out, keep.axes))


def test_contraction_apply_multiplies_orders():
    site, (x, y) = contraction_site()
    z = torch.tensor([1.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        got = SymmetricContraction().apply(site, (x, y), {}, {"order_out": z})
        want = site.module(x, y)
    assert torch.equal(got[:, :6], want[:, :6])
    assert torch.equal(got[:, 6:], want[:, 6:] * 0.5)


def test_contraction_flops_are_those_of_torch():
    from torch.utils.flop_counter import FlopCounterMode

    site, (x, y) = contraction_site()
    keep = contraction_keep(site, [1, 1, 1], np.ones(6, bool), [1, 1])
    counted = []
    for n in (64, 192):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            site.module(x[:1].repeat(n, 1, 1), y[:1].repeat(n, 1))
        counted.append(counter.get_total_flops())
    cost = SymmetricContraction().cost(site, keep)
    assert cost.matmul == (counted[1] - counted[0]) / 128
    assert cost.params == sum(p.numel() for p in site.module.parameters())


def test_types_that_do_not_fit_name_both_nodes():
    graph = graph_of("heads")
    site = graph.sites["model_products_0_symmetric_contractions"]
    wrong = type(site)(
        site.node,
        site.module,
        site.operands,
        (graph.type_of("model_interactions_1_linear"), site.types[1]),
    )
    with pytest.raises(IrrepsTypeError, match=r"symmetric_contractions.*interactions_0_reshape"):
        SymmetricContraction().infer(wrong)
