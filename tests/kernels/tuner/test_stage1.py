"""Stage 1: occupancy, instructions, rejected configurations, resumed surveys, one real compilation."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irprune.errors import IrpruneError, UsageError
from irprune.kernels.triton.config import Config, configs, deeper, shallow
from irprune.kernels.tuner import facts, stage1
from irprune.kernels.tuner.architecture import ARCHITECTURES, architecture_named
from irprune.kernels.tuner.facts import KernelFacts, count_instructions, resource_usage
from irprune.kernels.tuner.pool import CompilerDied
from irprune.kernels.tuner.stage1 import Candidate, inspect, ranked, survey, usable
from irprune.tuning import TuneError
from tests.kernels.tuner.fakes import Compiler, candidate, scalars

H100 = architecture_named("sm_90")


# Occupancy


@pytest.mark.parametrize(
    ("name", "registers", "shared", "warps", "expected"),
    [
        ("sm_90", 32, 0, 4, 1.0),  # 64 warps of 1024 registers
        ("sm_90", 64, 0, 4, 0.5),
        ("sm_90", 65, 0, 4, 28 / 64),  # 9 granules of 256 a warp: 28 warps, 7 programs
        ("sm_90", 255, 0, 1, 8 / 64),
        ("sm_90", 32, 0, 1, 0.5),  # 32 programs of one warp are the limit
        ("sm_90", 32, 113 * 1024, 4, 8 / 64),  # 228 KiB hold two
        ("sm_90", 32, 228 * 1024, 4, 0.0),  # and one KiB is CUDA's own
        ("sm_86", 32, 0, 4, 1.0),
        ("gfx942", 128, 0, 4, 0.5),  # 16 waves: four on each SIMD
    ],
)
def test_occupancy(name, registers, shared, warps, expected):
    assert architecture_named(name).occupancy(registers, shared, warps) == pytest.approx(expected)


@given(
    st.sampled_from(sorted(ARCHITECTURES)),
    st.integers(1, 255),
    st.integers(0, 60_000),
    st.sampled_from([1, 2, 4, 8]),
)
def test_occupancy_is_a_share_that_more_needs_never_raise(name, registers, shared, warps):
    a = architecture_named(name)
    found = a.occupancy(registers, shared, warps)
    assert 0 <= found <= 1
    assert a.occupancy(registers + 8, shared, warps) <= found
    assert a.occupancy(registers, shared + 4096, warps) <= found


def test_an_unknown_architecture():
    with pytest.raises(UsageError) as error:
        architecture_named("sm_99")
    assert str(error.value) == (
        f"no GPU architecture is called 'sm_99'; known are {', '.join(ARCHITECTURES)}"
    )


# Instructions

PTX = """.visible .entry k(
\t.param .u64 k_0
)
.reqntid 32
{
\t.reg .pred \t%p<2>;
// %bb.0:
\tmov.u32 \t%r1, %tid.x;
\tld.param.b64 \t%rd1, [k_0];
\t@%p1 bra \t$L__BB0_2;
$L__BB0_1:
\tld.global.b32 \t%r2, [%rd1];
\tfma.rn.f32 \t%f1, %f2, %f3, %f1;
\t@%p2 bra \t$L__BB0_1;
$L__BB0_2:
\tst.global.b32 \t[%rd1], %f1;
\tret;
}
\t.section .debug
"""
AMD = """k:
\ts_load_dword s0, s[4:5], 0x0
.LBB0_1:
\tglobal_load_dword v1, v0, s[2:3]
\tv_fma_f32 v2, v1, v1, v2
\ts_cbranch_scc1 .LBB0_1
\ts_endpgm
\t.section .rodata
\tv_nop
"""


@pytest.mark.parametrize(("text", "expected"), [(PTX, (3, 5)), (AMD, (3, 2))])
def test_instructions_inside_and_outside_of_the_loop(text, expected):
    assert count_instructions(text) == expected


def test_without_a_loop_all_are_outside():
    assert count_instructions(PTX.replace("@%p2 bra \t$L__BB0_1", "nop")) == (0, 8)


def test_the_tool_that_fails_says_so(monkeypatch, tmp_path):
    tool = tmp_path / "cuobjdump"
    tool.write_text("#!/bin/sh\necho not a cubin >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(facts, "find_tool", lambda: tool)
    with pytest.raises(IrpruneError) as error:
        resource_usage(b"")
    assert str(error.value) == "cuobjdump cannot read a compiled kernel: not a cubin"


def test_a_tool_that_is_not_there(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    import triton.backends.nvidia

    monkeypatch.setattr(triton.backends.nvidia, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(
        IrpruneError, match=r"there is no .*cuobjdump; install triton from its wheel"
    ):
        facts.find_tool()


# Candidates


@pytest.fixture
def compiler(monkeypatch):
    made = Compiler()
    monkeypatch.setattr(stage1, "read_facts", made.read)
    return made


def test_fewer_instructions_and_enough_warps_come_first():
    a, b, c = (Config(16, 1, n, "csr") for n in (1, 2, 3))
    few, many = candidate(a, 100.0), candidate(b, 150.0)
    crowded = candidate(c, 100.0, occupancy=0.125)  # half of what is enough: as if 200
    bad = candidate(Config(32, 1, 1, "csr"), 1.0, rejected="forward_0: spills")
    assert ranked([bad, crowded, many, few]) == (few, many, crowded)
    full = candidate(c, 100.0, occupancy=0.5)
    assert full.cost == few.cost  # more warps than enough hide no more


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"stack": 48}, "forward_0: 48 bytes per thread spill"),
        (
            {"shared": 300_000},
            "forward_0: 300000 bytes of shared memory and 32 registers do not fit sm_90",
        ),
    ],
)
def test_what_spills_or_does_not_fit_is_rejected(compiler, facts, reason):
    compiler.facts = lambda source: facts
    found = inspect(scalars(), Config(16, 1, 1, "csr"), torch.float32, H100, 32, compiler)
    assert found.rejected == reason
    assert len(compiler.compiled) == 1  # nothing after it


def test_what_does_not_compile_is_rejected(compiler):
    compiler.fail = {(16, 2)}
    found = inspect(scalars(), Config(16, 1, 2, "csr"), torch.float32, H100, 32, compiler)
    assert found.rejected == "forward_0: RuntimeError: out of registers"


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), MemoryError(), AttributeError("device_caches")],
)
def test_what_is_no_fault_of_a_configuration_is_not_held_against_it(compiler, error):
    compiler.fail, compiler.error = {(16, 1)}, error
    with pytest.raises(type(error)):
        inspect(scalars(), Config(16, 1, 1, "csr"), torch.float32, H100, 32, compiler)


def test_errors_of_triton_and_its_assembler_are(compiler):
    from triton.runtime.errors import OutOfResources, PTXASError

    for error in (PTXASError("it does not fit"), OutOfResources(2, 1, "shared memory")):
        compiler.fail, compiler.error = {(16, 1)}, error
        found = inspect(scalars(), Config(16, 1, 1, "csr"), torch.float32, H100, 32, compiler)
        assert found.rejected.startswith(f"forward_0: {type(error).__name__}: ")


def test_an_assembler_that_was_killed_says_nothing_of_a_configuration(compiler):
    from triton.runtime.errors import PTXASError

    given = (scalars(), Config(16, 1, 1, "csr"), torch.float32, H100, 32, compiler)
    compiler.fail = {(16, 1)}
    for code in (-9, 137):
        compiler.error = PTXASError(f"`ptxas` failed with error code {code}")
        with pytest.raises(
            CompilerDied, match=r"^an assembler was ended by the system: PTXASError"
        ):
            inspect(*given)
    for code in (1, 255):
        compiler.error = PTXASError(f"`ptxas` failed with error code {code}")
        assert f"error code {code}" in inspect(*given).rejected


def deadly(source, architecture):
    """A compiler that dies of blocks of 32 channels."""
    if source.constexprs["BLOCK"] == 32:
        os._exit(3)
    return stage1.compile_source(source, architecture)


def dead(source, architecture):
    os._exit(3)


def test_what_a_compiler_dies_of_is_rejected_and_the_rest_is_kept():
    spec, kept = scalars(), []
    found = survey(
        spec, torch.float32, H100, 32, compiler=deadly, jobs=2, keep=lambda c: kept.append(len(c))
    )
    assert [c.config for c in found] == list(shallow(spec))
    for c in found:
        assert (c.rejected or "").startswith("its compiler dies: ") == (c.config.block == 32)
    assert kept == [1, 2, 3, 4]


def test_a_compiler_that_dies_of_everything_is_an_error():
    with pytest.raises(CompilerDied):
        survey(scalars(), torch.float32, H100, 32, compiler=dead, jobs=2)


def test_a_survey_has_every_configuration_of_one_stage_and_names_the_best(compiler):
    spec = scalars()
    cheap = {(32, 1): 10.0}
    compiler.facts = lambda s: {
        "instructions": cheap.get((s.constexprs["BLOCK"], s.constexprs["STAGES"]), 100.0)
    }
    seen = []
    found = survey(
        spec, torch.float32, H100, 32, compiler=compiler,
        progress=lambda label, done, total=None: seen.append((label, done, total)),
    )  # fmt: skip
    assert [c.config for c in found] == [c for c in configs(spec) if c.stages == 1]
    assert str(ranked(found)[0].config) == "block=32,warps=1,stages=1,variant=csr"
    assert seen[0] == ("compile for sm_90", 0, len(found))
    assert seen[-1] == ("compile for sm_90", len(found), len(found))


def test_a_survey_goes_on_where_it_was_cut_off(compiler):
    spec = scalars()
    kept = []

    class Stop(Exception):
        pass

    def keep(found):
        kept[:] = found
        if len(found) == 3:
            raise Stop

    with pytest.raises(Stop):
        survey(spec, torch.float32, H100, 32, compiler=compiler, keep=keep)
    before = len(compiler.compiled)
    found = survey(spec, torch.float32, H100, 32, known=kept, compiler=compiler)
    per_config = before // 3
    assert len(compiler.compiled) - before == per_config * (len(shallow(spec)) - 3)
    assert list(found[:3]) == kept
    deep = deeper(spec, Config(16, 1, 1, "csr"))
    more = survey(spec, torch.float32, H100, 32, wanted=deep, known=found, compiler=compiler)
    assert [c.config for c in more] == list(deep) == [Config(16, 1, n, "csr") for n in (2, 3)]
    assert deeper(spec, deep[-1]) == deeper(spec, Config(16, 1, 1, "atomic")) == ()


def test_a_survey_in_which_nothing_is_left(compiler):
    compiler.facts = lambda source: {"stack": 8}
    spec = scalars()
    found = survey(spec, torch.float32, H100, 32, compiler=compiler)
    with pytest.raises(TuneError) as error:
        usable(spec, found, "sm_90")
    assert str(error.value) == (
        f"no configuration of {spec.key} can be used on sm_90; the first, {configs(spec)[0]}:"
        " forward_0: 8 bytes per thread spill"
    )


def test_json_there_and_back():
    for made in (candidate(Config(16, 1, 1, "csr")), candidate(Config(16, 1, 1, "csr"), 1, 1, "x")):
        assert Candidate.from_json(made.to_json()) == made


# What triton makes


@pytest.fixture
def real(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("unscripted", "real")
@pytest.mark.parametrize("name", ["sm_80", "sm_90", "gfx942"])
def test_facts_of_compiled_kernels(name):
    architecture = architecture_named(name)
    narrow = inspect(scalars(40), Config(16, 1, 1, "csr"), torch.float32, architecture, 32)
    wide = inspect(scalars(40), Config(64, 1, 1, "csr"), torch.float32, architecture, 32)
    assert narrow.rejected is wide.rejected is None
    assert [k.name for k in wide.kernels] == ["forward_0", "features_0", "edges"]
    for k in (*narrow.kernels, *wide.kernels):
        assert 4 <= k.registers <= 255
        assert k.stack == 0
        assert 0 < k.occupancy <= 1
        assert 5 < k.instructions < 5000
    # three blocks of 16 for 40 channels: three programs read the edges
    assert narrow.kernels[0].instructions > 1.5 * wide.kernels[0].instructions
    assert isinstance(wide.kernels[0], KernelFacts)


@pytest.mark.usefixtures("unscripted", "real")
def test_spills_show_as_stack(tmp_path):
    """128 channels of vectors in float64 on one warp need more registers than there are."""
    from tests.kernels import specs

    spec = specs.path_spec(specs.product("128x1o", "0e+1o+2e", 3))
    source = next(
        s for s in stage1.sources(spec, Config(128, 1, 1, "csr"), torch.float64)
        if s.name == "forward_0"
    )  # fmt: skip
    made = stage1.compile_source(source, H100)
    found = facts.read_facts(source.name, made, H100, 1, source.blocks, 32)
    assert found.stack > 0
    assert found.registers == 255
