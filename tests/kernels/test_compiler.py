"""The compiler: found or not, its cache, and what is said when it is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from irprune import backends
from irprune.errors import UsageError
from irprune.kernels.cpu import compiler
from irprune.kernels.cpu.backend import PROBE, Cpu
from tests.kernels import specs

CPU = torch.device("cpu")


def test_a_library_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path))
    compiler._loaded.cache_clear()
    assert compiler.library(PROBE).probe() == 1
    (made,) = (tmp_path / "kernels").glob("*.so")
    stamp = made.stat().st_mtime_ns
    compiler._loaded.cache_clear()
    monkeypatch.setattr(compiler, "_compile", None)
    assert compiler.library(PROBE).probe() == 1
    assert made.stat().st_mtime_ns == stamp
    compiler._loaded.cache_clear()


def test_a_damaged_library_is_made_anew(tmp_path):
    path = tmp_path / "damaged.so"
    path.write_text("no library")
    source = PROBE.replace("probe", "anew")
    assert compiler._loaded(compiler.find_compiler(), source, path).anew() == 1
    assert path.stat().st_size > 1000


def test_rejected_code_names_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path))
    with pytest.raises(compiler.CompilerError, match=r"cannot compile a generated kernel: .*error"):
        compiler.library("this is no C++;")
    assert not list((tmp_path / "kernels").glob("*"))


def test_the_key_knows_source_and_flags(tmp_path, monkeypatch):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path))
    compiler.library(PROBE + "// one\n")
    compiler.library(PROBE + "// two\n")
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "-DONE"))
    compiler._loaded.cache_clear()
    compiler.library(PROBE + "// one\n")
    assert len(list((tmp_path / "kernels").glob("*.so"))) == 3


def test_no_compiler_is_declined_and_said_once(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    spec = specs.polynomial(3)
    choice = backends.choose(spec, CPU, torch.float64)
    assert str(choice) == "reference (cpu: no C++ compiler on the path and none in CXX)"
    backends._kernel.cache_clear()
    backends._told.clear()
    x = torch.zeros(1, spec.dims[0] * 3, dtype=torch.float64)
    for _ in range(2):
        backends._kernel.cache_clear()
        assert backends.kernel_for(spec, x) == spec.evaluate
    assert capsys.readouterr().err == (
        "irprune: slower reference kernels are used (cpu: no C++ compiler on the path and none in"
        " CXX)\n"
    )
    with pytest.raises(UsageError, match=r"^the backend that was asked for declines: cpu: no C"):
        backends.choose(spec, CPU, torch.float64, "cpu")
    backends._kernel.cache_clear()


def test_a_compiler_that_fails_is_declined(monkeypatch, tmp_path):
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    compiler._loaded.cache_clear()
    refusal = Cpu().supports(specs.polynomial(3), CPU, torch.float64)
    assert refusal is not None
    assert refusal.loud
    assert "cannot compile a generated kernel: broken" in str(refusal)


@pytest.mark.parametrize(
    ("device", "dtype", "reason"),
    [
        (torch.device("meta"), torch.float32, "cpu: runs on the CPU, the tensors are on meta"),
        (CPU, torch.bfloat16, "cpu: float32 and float64 only, got torch.bfloat16"),
    ],
)
def test_what_the_cpu_backend_declines(device, dtype, reason):
    refusal = Cpu().supports(specs.polynomial(3), device, dtype)
    assert str(refusal) == reason
    assert not refusal.loud
    assert backends.choose(specs.polynomial(3), device, dtype).backend == "reference"


def test_an_unknown_backend():
    known = "triton, cpu, openequivariance, cuequivariance, reference"
    with pytest.raises(UsageError, match=rf"^no backend is called 'gpu'; known are {known}$"):
        backends.choose(specs.polynomial(3), CPU, torch.float32, "gpu")


def test_one_openmp_runtime():
    """The library uses the threads that torch has: it brings no second runtime."""
    code = (
        "import torch\n"
        "from irprune.kernels.cpu.compiler import library\n"
        "from irprune.kernels.cpu.backend import PROBE\n"
        "library(PROBE).probe()\n"
        "maps = open('/proc/self/maps').read()\n"
        "names = {l.split('/')[-1] for l in maps.splitlines() if 'gomp' in l or 'iomp' in l}\n"
        "print(len(names))\n"
    )
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc to read the loaded libraries from")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_cache_that_cannot_be_written_is_declined(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "file"))
    compiler._loaded.cache_clear()
    refusal = Cpu().supports(specs.polynomial(3), CPU, torch.float64)
    assert refusal is not None
    assert refusal.loud
    assert "set IRPRUNE_CACHE to a folder that can be written" in str(refusal)


def test_options_in_cxx(monkeypatch):
    found = compiler.find_compiler()
    monkeypatch.setenv("CXX", f"{found} -O3 -g")
    assert compiler.find_compiler() == found
