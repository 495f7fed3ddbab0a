"""benchmarks/gpu: kernels compiled before they are needed."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import ahead, command, run, stages
from benchmarks.gpu.models import structure_for
from irprune.data.batch import collate
from irprune.kernels.triton.config import configs, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner import cache, lookup
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.entry import degree_of
from irprune.kernels.tuner.pool import in_processes
from tests.benchmarks.fakegpu import fake_gpu
from tests.kernels.tuner.fakes import scalars

pytestmark = pytest.mark.usefixtures("unscripted")

SM_90 = architecture_named("sm_90")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.TABLES, raising=False)
    cache._told.clear()
    lookup._lookup.cache_clear()


def asked(**changes):
    given = {
        "layers": ["mace-small", "mace-small-contraction"], "keep": [1.0, 0.5], "models": [],
        "dtypes": ["float32", "bfloat16"], "stages": ["correctness", "kernels"], "jobs": 1,
    }  # fmt: skip
    return Namespace(**{**given, **changes})


def test_what_matters_most_comes_first(capsys):
    """float32 in every variant, the widths that are raced, other dtypes, what is near the widths."""
    found = dict(ahead.wanted(asked(), SM_90))
    assert len(found) == len(list(ahead.wanted(asked(), SM_90))), "each once"
    assert all(name == ahead.name_of(*given[:3]) for name, given in found.items())
    configured = [(c, d) for _, c, d, _ in found.values()]
    kinds = [
        "near" if c.stages > 1 else "width" if c.block > 32 else f"{c.variant} {d}"
        for c, d in configured
    ]
    turns = [k for i, k in enumerate(kinds) if not i or kinds[i - 1] != k]
    assert (
        turns.index("csr torch.float32") < turns.index("width") < turns.index("csr torch.bfloat16")
    )
    assert turns.index("csr torch.bfloat16") < turns.index("near")
    checked = [d for _, d in configured].count(torch.bfloat16)
    assert checked == (2 + 1) * 3  # (csr, atomic; rows) × (full, half, half odd)
    assert {c.block for c, _ in configured} == {32, 64, 128}
    assert {c.stages for c, _ in configured if c.variant == "csr"} == {1, 2, 3}
    assert all(c in configs(s) for s, c, *_ in found.values())
    only = dict(ahead.wanted(asked(stages=["correctness"]), SM_90))
    assert {g[2] for g in only.values()} == {torch.float32, torch.bfloat16}
    assert list(only) == [n for n in found if n in only]
    capsys.readouterr()


@pytest.mark.parametrize("stage", ["models", "captured"])
def test_kernels_of_a_model(tmp_path, capsys, stage, monkeypatch):
    """For the number of neighbours in the crystal that it is timed on."""
    import irprune
    from irprune.graphfile import save
    from tests.passes.toy import graph

    made = irprune.run("fuse-conv", graph())
    save(made, tmp_path / "fast.irp")
    monkeypatch.setattr(ahead, "DEGREE", 1000)
    given = asked(stages=[stage], models=[str(tmp_path / "fast.irp")])
    ((_, (spec, config, dtype, _)),) = ahead.wanted(given, SM_90)
    assert (config, dtype) == (default(spec), torch.float64), "the toy is in float64"
    structure = structure_for("fast.irp", made, 64)
    edges = collate([structure], made.atomistic, torch.float64).n_edges
    degree = degree_of(spec, edges / len(structure))
    said = capsys.readouterr().err
    assert "the default configuration is used" in said
    assert f"about {degree} edges per node" in said


def test_what_does_not_compile_is_left_to_its_launch(monkeypatch):
    spec = scalars()
    names = [s.name for s in sources(spec, default(spec), torch.float32)]
    tried = []

    def compile_source(source, architecture):
        tried.append(source.name)
        if source.name == "forward_0":
            raise RuntimeError("no")

    monkeypatch.setattr(ahead, "compile_source", compile_source)
    made = ahead.fill(spec, default(spec), torch.float32, SM_90)
    assert made == (len(names) - 1, "forward_0: RuntimeError: no")
    assert tried == names


def test_what_was_compiled_in_part_does_not_count_as_done(monkeypatch, capsys):
    answers = {"a": (3, None), "b": (2, "edges: RuntimeError: no"), "c": (0, "forward_0: another")}
    monkeypatch.setattr(ahead, "wanted", lambda *a: ((n, (r,)) for n, r in answers.items()))
    monkeypatch.setattr(ahead, "fill", lambda answer: answer)
    assert ahead.compile_ahead(asked(jobs=1), SM_90, 60.0) == {"a"}
    said = capsys.readouterr().err
    assert said.startswith(
        "the first that does not compile: edges: RuntimeError: no\n"
        "5 kernels compiled ahead, all of 1 configurations; 2 of those begun are not done ("
    )


def test_the_time_ends(monkeypatch, capsys):
    given = [(str(i), (0.2 + 40 * (i > 1),)) for i in range(5)]
    monkeypatch.setattr(ahead, "wanted", lambda *a: iter(given))
    monkeypatch.setattr(ahead, "fill", time.sleep)
    monkeypatch.setattr(ahead, "in_processes", counted := Counted())
    start = time.perf_counter()
    assert ahead.compile_ahead(asked(jobs=2), SM_90, 4.0) == {"0", "1"}
    assert time.perf_counter() - start < 20
    assert counted.seconds == 4.0
    assert capsys.readouterr().err.startswith(
        "6 kernels compiled ahead, all of 2 configurations; 3 of those begun are not done ("
    )


class Counted:
    """Real processes; every work is said to have compiled three kernels."""

    def __call__(self, work, given, jobs, seconds):
        self.seconds = seconds
        return ((name, (3, None)) for name, _ in in_processes(work, given, jobs, seconds))


@pytest.mark.parametrize("where", ["fill", "wanted"])
def test_a_run_goes_on_where_nothing_can_be_compiled_ahead(where, monkeypatch, capsys):
    if where == "fill":
        monkeypatch.setattr(ahead, "wanted", lambda *a: iter([("a", (3,)), ("b", (3,))]))
        monkeypatch.setattr(ahead, "fill", os._exit)
    else:
        monkeypatch.setattr(ahead, "wanted", lambda *a: 1 / 0)
    assert ahead.compile_ahead(asked(jobs=2), SM_90, 60.0) == frozenset()
    said = capsys.readouterr().err
    kind = "CompilerDied" if where == "fill" else "ZeroDivisionError"
    assert said.startswith(f"not all is compiled ahead: {kind}: ")
    assert "0 kernels compiled ahead, all of 0 configurations" in said


@pytest.mark.parametrize("known", [True, False])
def test_a_run_compiles_first_where_the_architecture_is_known(known, tmp_path, monkeypatch):
    order = []
    spec, config = scalars(), default(scalars())

    def compile_ahead(given, architecture, seconds):
        order.append((architecture.name, 170 < seconds <= 180))
        return frozenset([ahead.name_of(spec, config, torch.float32)])

    def time_kernels(given, *rest):
        dtypes = (torch.float32, torch.float64)
        order.append(given.compiled and [given.compiled(spec, config, d) for d in dtypes])
        return {"results": []}

    monkeypatch.setattr(command, "compile_ahead", compile_ahead)
    monkeypatch.setattr(stages, "time_kernels", time_kernels)
    device = replace(fake_gpu(), architecture=SM_90 if known else None)
    assert run.main(["-o", str(tmp_path), "--stages", "kernels"], lambda: device) == 0
    assert order == ([("sm_90", True), [True, False]] if known else [None])
