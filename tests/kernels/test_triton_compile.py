"""Triton kernels compiled for GPUs that are not here: registers, spills, atomics."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from irprune import api
from irprune.families.mace import MaceFamily
from irprune.families.mace.load import wrap
from irprune.families.trace import trace_family
from irprune.kernelplan import kernel_nodes
from irprune.kernels.triton.config import Config, configs, default
from irprune.kernels.triton.source import index_by_name, sources
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.compile import compile_source
from irprune.specs.poly import PolySpec
from tests.kernels import specs

pytestmark = pytest.mark.usefixtures("unscripted")

triton = pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(source, architecture):
    """What triton makes of a source for ``sm_90`` or ``gfx942``, as for a launch."""
    return compile_source(source, architecture_named(architecture))


def dumped(made, option, tmp_path):
    """What cuobjdump says of a program for NVIDIA."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    file = tmp_path / "kernel.cubin"
    file.write_bytes(made.asm["cubin"])
    command = [str(tool), option, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def stack(made, tmp_path):
    """Bytes per thread that a program for NVIDIA keeps outside of registers."""
    return int(re.search(r"STACK:(\d+)", dumped(made, "--dump-resource-usage", tmp_path))[1])


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nothing_spills(architecture, tmp_path):
    spec = specs.spec_named("odd")
    found = sources(spec, default(spec), torch.float32)
    names = {f"{kind}_{i}" for kind in ("forward", "features") for i in range(2)} | {"edges"}
    assert {s.name for s in found} == names
    for source in found:
        assert stack(compiled(source, architecture), tmp_path) == 0, source.name


@pytest.mark.slow
def test_nothing_spills_in_a_layer_of_sevennet(tmp_path):
    """Pruned to odd counts, with every path up to l = 2."""
    spec = specs.path_spec(specs.product("65x0e+32x1o+17x2e", "0e+1o+2e", 2))
    for source in sources(spec, default(spec), torch.float32):
        assert stack(compiled(source, "sm_90"), tmp_path) == 0, source.name


def test_nothing_spills_on_an_amd_gpu():
    spec = specs.spec_named("scalars")
    for source in sources(spec, default(spec), torch.float32):
        text = compiled(source, "gfx942").asm["amdgcn"]
        assert re.findall(r"\.vgpr_spill_count:\s*(\d+)", text) == ["0"], source.name
        assert re.findall(r"\.private_segment_fixed_size:\s*(\d+)", text) == ["0"], source.name


def test_atomics_are_relaxed_reductions(tmp_path):
    """The default of triton orders memory around each addition; nothing here needs that.

    Up to triton 3.8 the PTX says ``atom``, and ptxas sees that nothing reads what it gives back.
    """
    spec = specs.path_spec(specs.product("128x0e", "0e+1o", 1))
    found = index_by_name(sources(spec, Config(128, 1, 1, "atomic"), torch.float32))
    for name in ("forward_0", "features_0"):
        made = compiled(found[name], "sm_90")
        added = re.findall(r"\b(?:red|atom)\.\S+", made.asm["ptx"])
        assert added
        assert all(".relaxed." in a and a.endswith(".v4.f32") for a in added), added
        machine = dumped(made, "-sass", tmp_path)
        assert len(re.findall(r"\bREDG\.E\.ADD\.F32x4", machine)) == len(added)
        assert not re.search(r"\bATOMG?\.", machine)
        assert "MEMBAR" not in machine


def test_sums_in_registers_need_no_atomics():
    spec = specs.spec_named("scalars")
    for source in sources(spec, default(spec), torch.float32):
        assert not re.search(r"\b(red|atom)\.global", compiled(source, "sm_80").asm["ptx"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("variant", ["csr", "atomic"])
def test_other_dtypes_compile(dtype, variant):
    spec = specs.spec_named("scalars")
    for source in sources(spec, Config(16, 1, 1, variant), dtype):
        kind = "f64" if dtype is torch.float64 else "f32"
        text = compiled(source, "sm_80").asm["ptx"]
        assert re.search(rf"(fma|mul)\.(rn\.)?{kind}", text)


def test_loads_of_several_edges_are_in_flight_with_stages():
    spec = specs.spec_named("wide")
    chosen = [c for c in configs(spec) if c.stages == 3 and c.block == 32 and c.warps == 1]
    (source,) = (s for s in sources(spec, chosen[0], torch.float32) if s.name == "forward_0")
    assert "cp.async" in compiled(source, "sm_80").asm["ptx"]


def test_polynomials_do_not_spill(tmp_path):
    """All programs of degree 2; of degree 3 the largest, in the slow part."""
    spec = specs.polynomial(33, 2)
    found = sources(spec, default(spec), torch.float32)
    assert [s.name for s in found] == [
        "values", "first_x", "first_xw", "second_x", "second_xw", "second_w"
    ]  # fmt: skip
    for source in found:
        assert stack(compiled(source, "sm_90"), tmp_path) == 0, source.name


@pytest.mark.slow
def test_second_derivatives_of_degree_3_do_not_spill(tmp_path):
    spec = specs.polynomial(33, 3)
    found = index_by_name(sources(spec, default(spec), torch.float32))
    assert stack(compiled(found["second_xw"], "sm_90"), tmp_path) == 0


@pytest.mark.slow
def test_second_derivatives_of_mace_medium_do_not_spill(tmp_path):
    """0e and 1o of ν = 3 from four orders: the contraction that once did not fit, fewer channels."""
    from tests.families.mace_models import build

    model = trace_family(MaceFamily(), wrap(build("32x0e+32x1o", max_ell=3), ""))
    lowered = api.run("symmetrize-contraction,fold-onehot,lower-contraction", model)
    spec = next(m.spec for _, m in kernel_nodes(lowered.gm) if isinstance(m.spec, PolySpec))
    assert (spec.n_paths, len(spec.terms)) == (29, 486)
    found = index_by_name(sources(spec, default(spec), torch.float32))
    for name in ("second_xw", "second_w"):
        assert stack(compiled(found[name], "sm_90"), tmp_path) == 0, name


def test_polynomials_compile_for_an_amd_gpu():
    spec = specs.polynomial(5, 1)
    for source in sources(spec, default(spec), torch.float64):
        text = compiled(source, "gfx942").asm["amdgcn"]
        assert re.findall(r"\.vgpr_spill_count:\s*(\d+)", text) == ["0"], source.name
