"""benchmarks/gpu: kernels compiled before they are needed."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import ahead, command, run, stages
from irprune.kernels.triton.config import configs, default
from irprune.kernels.triton.source import sources
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import architecture_named
from tests.benchmarks.fakegpu import fake_gpu
from tests.kernels.tuner.fakes import scalars

pytestmark = pytest.mark.usefixtures("unscripted")

SM_90 = architecture_named("sm_90")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.TABLES, raising=False)


def asked(**changes):
    given = {
        "layers": ["mace-small", "mace-small-contraction"], "keep": [1.0, 0.5], "models": [],
        "dtypes": ["float32", "bfloat16"], "stages": ["correctness", "kernels"], "jobs": 1,
    }  # fmt: skip
    return Namespace(**{**given, **changes})


def test_what_a_run_launches_comes_in_its_order(capsys):
    """float32 first, every variant; then the widths that are raced, then what is near them."""
    found = list(ahead.wanted(asked(), SM_90).values())
    spec, config, dtype, architecture = found[0]
    assert (config.variant, dtype, architecture) == ("csr", torch.float32, SM_90)
    dtypes = [d for *_, d, _ in found]
    checked = 2 * (2 + 1) * 3  # dtypes × (csr, atomic; rows) × (full, half, half odd)
    assert dtypes[: checked // 2] == [torch.float32] * (checked // 2)
    assert dtypes[checked // 2 : checked] == [torch.bfloat16] * (checked // 2)
    assert set(dtypes[checked:]) == {torch.float32}
    assert {c.block for _, c, *_ in found[checked:]} == {32, 64, 128}
    assert len(set(found)) == len(found)
    raced = [c for s, c, d, _ in found if s == spec and d is torch.float32]
    stages_of = {c.stages for c in raced if c.variant == "csr"}
    assert stages_of == {1, 2, 3}
    assert all(c in configs(spec) for c in raced)
    only = ahead.wanted(asked(stages=["correctness"]), SM_90)
    assert list(only) == list(ahead.wanted(asked(), SM_90))[:checked]
    capsys.readouterr()


def test_kernels_of_a_model(tmp_path, capsys):
    import irprune
    from irprune.graphfile import save
    from tests.passes.toy import graph

    save(irprune.run("fuse-conv", graph()), tmp_path / "fast.irp")
    given = asked(stages=["models"], models=[str(tmp_path / "fast.irp")])
    ((spec, config, dtype, _),) = ahead.wanted(given, SM_90).values()
    assert (config, dtype) == (default(spec), torch.float32)
    assert "no configuration is tuned" in capsys.readouterr().err


def test_what_does_not_compile_is_left_to_its_launch(monkeypatch):
    spec = scalars()
    names = [s.name for s in sources(spec, default(spec), torch.float32)]
    tried = []

    def compile_source(source, architecture):
        tried.append(source.name)
        if source.name == "forward_0":
            raise RuntimeError("no")

    monkeypatch.setattr(ahead, "compile_source", compile_source)
    assert ahead.fill(spec, default(spec), torch.float32, SM_90) == len(names) - 1
    assert tried == names


def test_the_time_ends(monkeypatch, capsys):
    monkeypatch.setattr(ahead, "wanted", lambda *a: {str(i): (i,) for i in range(5)})
    monkeypatch.setattr(ahead, "fill", lambda i: 3)
    left = iter([True, True, False])
    ahead.compile_ahead(asked(), SM_90, lambda: next(left))
    said = capsys.readouterr().err
    assert said.startswith("6 kernels of 2 configurations compiled ahead, 3 not reached (")


@pytest.mark.parametrize("known", [True, False])
def test_a_run_compiles_first_where_the_architecture_is_known(known, tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(command, "compile_ahead", lambda g, a, t: order.append((a.name, t())))
    monkeypatch.setattr(
        stages, "time_kernels", lambda *a: order.append("kernels") or {"results": []}
    )
    device = replace(fake_gpu(), architecture=SM_90 if known else None)
    assert run.main(["-o", str(tmp_path), "--stages", "kernels"], lambda: device) == 0
    assert order == [("sm_90", True)] * known + ["kernels"]
