"""A compiled graph: one program for all sizes, the same numbers, and loud failures."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import threading

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from e3nn import o3
from torch.fx.experimental.proxy_tensor import make_fx

import irprune
from irprune import api
from irprune.compiling import compiled, joint
from irprune.compiling.compiled import Compiled, CompileError, CompileOptions
from irprune.compiling.rung import compiled_rung, first_run, summary
from irprune.errors import IrpruneError, LegalityError, UsageError
from irprune.evaluation.potential import Potential
from irprune.files import cache_folder
from irprune.layers import by_element, capturable
from irprune.specs.linear import mix
from tests.families import sevennet_models
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture for all tests
from tests.families.test_exact_members import REAL, built_mace, real_graph

FAST = str(api.optimize_pipeline(verify=False))
AOT, EAGER = CompileOptions("aot_eager"), CompileOptions("eager")


@functools.cache
def optimized(name):
    """A small model after all exact passes, with the note that it is compiled."""
    graph = sevennet_models.small(name).graph if "-" in name else built_mace(name)
    return irprune.run(FAST, graph).replace(compiled=AOT)


def potential(graph):
    return Potential(graph.runnable(), graph.atomistic, graph.atomistic.any_head())


def plain(graph):
    return potential(graph.replace(compiled=None))


def sizes(symbol="C", a=3.6):
    """Eight structures whose numbers of atoms, edges and pairs all differ; one with N = E."""
    cube = bulk(symbol, "diamond", a=a, cubic=True)
    made = [bulk(symbol, "diamond", a=a), cube, cube.repeat((2, 1, 1)), cube.repeat((2, 2, 1))]
    ring = Atoms(f"{symbol}4", [[0, 0, 0], [2.4, 0, 0], [20, 0, 0], [22.4, 0, 0]])
    made += [ring, made[0].repeat((3, 1, 1)), made[0].repeat((5, 1, 1)), cube.repeat((3, 1, 1))]
    for i, atoms in enumerate(made):
        atoms.rattle(0.05, seed=i)
    return made


def assert_equal(ours, graph, frames, tolerance):
    reference = plain(graph)
    for atoms in frames:
        batch = reference.collate([atoms])
        want, got = (p.evaluate(batch, stress=True) for p in (reference, ours))
        for name in ("energy", "energies", "forces", "stress"):
            a, b = getattr(want, name), getattr(got, name)
            assert a.shape == b.shape
            assert not b.requires_grad
            assert (a - b).abs().max() <= tolerance * max(1.0, float(a.abs().max())), name


@pytest.mark.parametrize("name", ["single", "even-linear-xplor"])
def test_one_program_for_all_sizes(name):
    graph = optimized(name)
    symbol = "C" if "C" in graph.atomistic.symbols else graph.atomistic.symbols[0]
    frames = sizes(symbol)
    ours = shared() if name == "single" else potential(graph)
    counts = {joint.sizes_of(b)[:2] for b in map(inputs_of(ours), frames)}
    assert len(counts) == len(frames) == 8
    assert any(edges == atoms for edges, atoms in counts)
    assert_equal(ours, graph, frames[::-1], 1e-4 if ours.dtype is torch.float32 else 1e-10)
    found = ours.module.counts()
    assert (found["backend"], found["graphs"], found["recompilations"]) == ("aot_eager", 1, 0)
    (reason,) = ours.module.reasons
    assert reason.startswith("compiled for ")


@functools.cache
def shared():
    """One potential that is compiled once; tests leave its weights as they were."""
    return potential(optimized("single"))


def inputs_of(model):
    def inputs(atoms):
        b = model.collate([atoms])
        return b.edge_vectors(), b.species, b.edge_index, b.head

    return inputs


def test_structures_too_small_to_compile():
    """One atom, no edge, one pair: torch would compile a function for each."""
    graph, ours = optimized("single"), shared()
    before = ours.module.counts()
    frames = [Atoms("H"), Atoms("HO", [[0, 0, 0], [0, 0, 30]]), molecule("OH"), bulk("C", "fcc", 3)]
    assert_equal(ours, graph, frames, 1e-10)
    after = ours.module.counts()
    assert after["plain_calls"] == before["plain_calls"] + 4
    assert after["graphs"] == before["graphs"]
    isolated = molecule("CH3CHO") + Atoms("O", [[40, 0, 0]])
    assert_equal(ours, graph, [molecule("CH3CHO"), isolated], 1e-10)
    assert ours.module.compilations == 1


def test_the_gradient_is_compiled():
    """The module itself is not called, so there is nothing that autograd could differentiate."""
    ours = shared()
    batch = ours.collate([molecule("CH3CHO")])
    ours.evaluate(batch)
    module = ours.module.module
    ours.module.module = None
    try:
        ours.evaluate(batch, stress=True)
    finally:
        ours.module.module = module
    assert ours.module.compilations == 1


def test_second_derivatives_come_from_the_graph_as_it_is():
    ours = shared()
    batch = ours.collate([molecule("CH3CHO")])
    batch.positions.requires_grad_(True)
    before = ours.module.counts()
    forces = ours.evaluate(batch, create_graph=True).forces
    (second,) = torch.autograd.grad(forces.square().sum(), batch.positions)
    assert second.abs().max() > 1e-6
    assert ours.module.counts() == before


def test_weights_may_change_in_place():
    ours = shared()
    batch = ours.collate([molecule("CH3CHO")])
    before = ours.evaluate(batch).forces
    weights = [p for p in ours.module.parameters() if p.is_floating_point()]
    kept = [p.detach().clone() for p in weights]
    with torch.no_grad():
        for p in weights:
            p.mul_(1.01)
    after = ours.evaluate(batch).forces
    want = Potential(ours.module.module, ours.atomistic).evaluate(batch).forces
    with torch.no_grad():
        for p, k in zip(weights, kept, strict=True):
            p.copy_(k)
    assert (after - before).abs().max() > 1e-4
    assert (after - want).abs().max() < 1e-10
    assert ours.module.compilations == 1


def test_copies_and_other_precisions_compile_anew():
    ours = shared()
    batch = ours.collate([molecule("CH3CHO")])
    want = ours.evaluate(batch).forces
    other = ours.to(torch.float32)
    assert (other.module.compilations, ours.module.compilations) == (0, 1)
    got = other.evaluate(batch.to(torch.float32)).forces
    assert got.dtype is torch.float32
    assert (got - want).abs().max() < 1e-4
    assert other.module.compilations == 1
    copied = copy.deepcopy(ours.module)
    assert copied.options == AOT
    assert copied.compilations == 0
    read = Compiled.__new__(Compiled)
    read.__setstate__(pickle.loads(pickle.dumps({**ours.module.__getstate__(), "_modules": {}})))
    assert read.options == AOT
    assert read.compilations == 0


def test_threads_share_one_program():
    ours = potential(optimized("single").replace(compiled=EAGER))
    batch = ours.collate([molecule("CH3CHO")])
    found = []

    def call():
        found.append(ours.evaluate(batch).forces)

    workers = [threading.Thread(target=call) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(found) == 3
    assert all(torch.equal(f, found[0]) for f in found)
    assert ours.module.compilations == 1


def test_inductor_keeps_its_files_in_our_cache(monkeypatch, tmp_path):
    """While it compiles; where the user says otherwise, there. Nothing stays set."""
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path))
    module = optimized("single").replace(compiled=CompileOptions()).runnable()
    for given in (None, compiled._own_default(), "elsewhere"):
        monkeypatch.delenv(compiled.CACHE, raising=False)
        if given:
            monkeypatch.setenv(compiled.CACHE, given)
        with module._cache():
            ours = given != "elsewhere"
            assert os.environ[compiled.CACHE] == (str(tmp_path / "inductor") if ours else given)
        assert os.environ.get(compiled.CACHE) == given


def wrong(gm, inputs):
    """A backend that adds a thousandth to every energy and gradient."""

    @torch._dynamo.disable
    def run(*values):
        return tuple(v * (1 + 1e-3) for v in gm(*values))

    return run


def test_the_rung_finds_a_wrong_backend(monkeypatch):
    graph = optimized("single").replace(compiled=EAGER)
    frames = [molecule("CH3CHO"), bulk("C", "diamond", a=3.6)]
    before = torch._dynamo.config.get_config_copy()
    good = compiled_rung(graph, frames)
    assert torch._dynamo.config.get_config_copy() == before
    assert good.ok
    assert good.tolerance == 1e-10
    assert good.detail == "1 graph, 0 recompilations"
    monkeypatch.setattr(compiled, "backend_named", lambda name: wrong)
    bad = compiled_rung(graph, frames)
    assert bad.name == "compiled"
    assert bad.value > 1e-4
    assert not bad.ok


def test_a_wrong_stress_alone_is_found(monkeypatch):
    """A gradient with a part along each edge: in a perfect crystal forces cancel, the virial not."""

    def shifted(gm, inputs):
        @torch._dynamo.disable
        def run(*values):
            energies, gradient = gm(*values)
            (vectors,) = filter(lambda v: getattr(v, "shape", None) == gradient.shape, values)
            return energies, gradient + 1e-3 * vectors

        return run

    monkeypatch.setattr(compiled, "backend_named", lambda name: shifted)
    check = compiled_rung(optimized("single"), [bulk("C", "diamond", a=3.6)])
    assert check.value > 1e-3
    assert not check.ok


def test_failures_are_loud(monkeypatch):
    with pytest.raises(UsageError, match=r"no backend 'fast'.*inductor, aot_eager, eager"):
        CompileOptions("fast")
    ours = potential(optimized("single"))
    batch = ours.collate([molecule("CH3CHO")])

    def broken(gm, inputs):
        raise RuntimeError("no compiler here")

    with monkeypatch.context() as m:
        m.setattr(compiled, "backend_named", lambda name: broken)
        with pytest.raises(CompileError, match=r"aot_eager failed: RuntimeError: no compiler here"):
            ours.evaluate(batch)
    with torch.compiler.set_stance("force_eager"), pytest.raises(CompileError, match="disabled"):
        potential(optimized("single")).evaluate(batch)
    assert issubclass(CompileError, IrpruneError)


def test_no_compiler_for_inductor(monkeypatch):
    import torch._inductor.config as config

    graph = optimized("single").replace(compiled=CompileOptions())
    batch = plain(graph).collate([molecule("CH3CHO")])
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}),
        pytest.raises(CompileError, match=r"inductor failed.*run without compile"),
    ):
        potential(graph).evaluate(batch)


def test_what_cannot_be_compiled_is_named(monkeypatch):
    """Values that decide, and sizes that become numbers."""
    graph = optimized("single")
    nodes = {type(graph.gm.get_submodule(n.target)).__name__: n.name
             for n in graph.gm.graph.nodes if n.op == "call_module"}  # fmt: skip
    monkeypatch.setattr(joint, "_exchange", lambda rest: None)
    with pytest.raises(LegalityError, match=rf"node {nodes['ElementLinear']} \(module .*leave"):
        first_run(graph)
    monkeypatch.undo()

    def fixed(self, species):
        return self.table[species][: int(species.shape[0])] * int(species.shape[0])

    monkeypatch.setattr("irprune.layers.elements.ElementTable.forward", fixed)
    name = next(n.name for n in graph.gm.graph.nodes if "table" in n.name)
    with pytest.raises(LegalityError, match=rf"node {name} .*number of atoms a constant, \d+"):
        first_run(graph)


def test_laws_of_sizes_are_checked():
    """A program that holds from five atoms on is not used for four."""
    import sympy

    s, t = sympy.symbols("s t", integer=True)
    _, holds = joint._compiled_laws([s, 3, 2, t, s], [s > 4, sympy.Eq(t, 2 * s)])
    assert holds([5, 3, 2, 10, 5])
    assert not holds([4, 3, 2, 8, 4])
    assert not holds([5, 3, 2, 11, 5])
    assert not holds([5, 3, 2, 10, 6])


@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
@pytest.mark.parametrize("irreps", ["0e+1o+2e", "2e+0e", "1o+3o"])
def test_harmonics_without_torchscript(irreps, normalization):
    original = o3.SphericalHarmonics(irreps, normalize=True, normalization=normalization)
    plain = capturable.plain_harmonics(original)
    assert type(plain) is capturable.PlainHarmonics
    x = torch.randn(7, 3, dtype=torch.float64)
    for _ in range(3):  # e3nn's function has been called: it is specialized by now
        want = original(x.requires_grad_())
        want.sum().backward()
    assert (plain(x) - want).abs().max() < 1e-14
    made = make_fx(plain, tracing_mode="symbolic")(x.detach())
    other = torch.randn(9, 3, dtype=torch.float64)
    assert (made(other) - original(other)).abs().max() < 1e-14


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("dim", "ir_mul"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("species", [[0, 2, 2, 0, 2], [1, 1, 1, 1, 1], []])
def test_mix_by_element(dim, ir_mul, species, waits, monkeypatch):
    """By element, and as on a GPU by atom, two at a time."""
    monkeypatch.setattr(by_element, "would_wait", lambda t: waits)
    monkeypatch.setattr(by_element, "GATHERED", 50)
    torch.manual_seed(0)
    n = len(species)
    x = torch.randn(n, 4 * dim, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    index = torch.tensor(species, dtype=torch.int64)
    rows = [mix(x[i : i + 1], weight[s], dim, ir_mul) for i, s in enumerate(species)]
    got = by_element.mix_by_element(x, index, weight, dim, ir_mul)
    assert got.shape == (n, 6 * dim)
    if not n:
        return
    assert torch.allclose(got, torch.cat(rows), atol=1e-14)
    torch.library.opcheck(by_element.mix_by_element, (x, index, weight, dim, ir_mul))

    def function(a, b):
        return by_element.mix_by_element(a, index, b, dim, ir_mul)

    assert torch.autograd.gradcheck(function, (x, weight))
    assert torch.autograd.gradgradcheck(function, (x, weight))


def test_the_note_is_kept(tmp_path):
    """In files, texts, and through other passes."""
    graph = optimized("single").replace(compiled=EAGER)
    assert "compiled by eager" in str(graph).splitlines()
    assert irprune.run("cse", graph).compiled == EAGER
    graph.save(str(tmp_path / "a.irp"))
    read = irprune.load(tmp_path / "a.irp")
    assert read.compiled == EAGER
    atoms = molecule("CH3CHO")
    atoms.calc = irprune.calculator(tmp_path / "a.irp")
    forces = atoms.get_forces()
    assert atoms.calc.potential.module.compilations == 1
    atoms.calc = irprune.calculator(tmp_path / "a.irp", compiled=False)
    assert np.abs(atoms.get_forces() - forces).max() < 1e-10
    assert not isinstance(atoms.calc.potential.module, Compiled)


def test_counts_in_words():
    assert summary({"graphs": 2, "recompilations": 1, "plain_calls": 3}) == (
        "2 graphs, 1 recompilation, 3 calls too small to compile"
    )


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [("mace-mp-0-small", "inductor"), ("7net-0", "aot_eager")]
)  # inductor takes two minutes for 7net-0
def test_real(name, backend, shared):
    """In float32: equal to the graph as it is, one program for all structures."""
    graph = real_graph(REAL[name], shared)
    graph = graph.replace(gm=graph.module(torch.float32))
    graph = irprune.run(FAST, graph).replace(compiled=CompileOptions(backend))
    ours = potential(graph)
    frames = sizes("Si", 5.4)
    check = compiled_rung(graph, frames)
    assert check.ok, str(check)
    assert backend != "inductor" or any((cache_folder("inductor")).iterdir())
    assert "1 graph, 0 recompilations" in check.detail
    assert ours.module.compilations == 0
