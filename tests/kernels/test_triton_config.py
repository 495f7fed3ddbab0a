"""Configurations of Triton kernels and the backend's declines; neither needs a GPU."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch

from irprune.backends import choose
from irprune.errors import UsageError
from irprune.irreps import Segment
from irprune.kernels.triton import installed
from irprune.kernels.triton.backend import Triton
from irprune.kernels.triton.config import (
    Config,
    config_for,
    configs,
    default,
    own_pins,
    pin,
    pinned,
)
from irprune.kernels.triton.convolution import groups
from irprune.kernels.triton.source import sources
from irprune.specs.layout import to_ir_mul, to_mul_ir
from irprune.specs.path import PathSpec, SpecPath
from irprune.specs.table import TableSpec


def scalars(mul=100):
    path = SpecPath(0, 0, 0, 0, 1.0, ((0, 0, 0, 1.0),))
    return PathSpec((Segment(mul, 0, 1),), (Segment(1, 0, 1),), (Segment(mul, 0, 1),), (path,), mul)


def test_text_and_back():
    config = Config(64, 2, 3, "csr")
    assert str(config) == "block=64,warps=2,stages=3,variant=csr"
    assert Config.parse(str(config)) == config
    for text in ("block=64,warps=2,stages=3", "block=x,warps=2,stages=3,variant=csr", "fast"):
        with pytest.raises(UsageError, match=f"'{text}' is no Triton configuration; expected"):
            Config.parse(text)


@pytest.mark.parametrize(
    ("mul", "blocks"),
    [(1, {16}), (9, {16}), (17, {16, 32}), (33, {16, 32, 64}), (100, {16, 32, 64, 128})],
)
def test_blocks_are_no_wider_than_the_channels_need(mul, blocks):
    found = configs(scalars(mul))
    assert {c.block for c in found} == blocks
    assert len(set(found)) == len(found)
    assert default(scalars(mul)) in found
    assert all(c.warps == 1 or c.warps * 32 <= c.block for c in found)
    assert all(c.stages == 1 for c in found if c.variant == "atomic")


def test_what_is_pinned_is_used():
    spec = scalars(99)
    assert config_for(spec, torch.float32) == default(spec) == Config(32, 1, 1, "csr")
    pin(spec, torch.float32, Config(128, 4, 1, "atomic"))
    assert config_for(spec, torch.float32) == Config(128, 4, 1, "atomic")
    assert config_for(spec, torch.float64) == default(spec)
    for use in (lambda c: pin(spec, torch.float32, c), lambda c: sources(spec, c, torch.float32)):
        with pytest.raises(UsageError, match=r"variant=rows is not legal for \w+: its widest seg"):
            use(Config(32, 1, 1, "rows"))


def test_groups_are_segments_that_share_results():
    segments = tuple(Segment(4, n, 1) for n in range(3))
    harmonic = (Segment(1, 0, 1),)

    def path(i, out, weight):
        return SpecPath(i, 0, out, weight, 1.0, ((0, 0, 0, 1.0),))

    paths = (path(0, 0, 0), path(1, 2, 4), path(2, 2, 8))
    found = groups(PathSpec(segments, harmonic, segments, paths, 12))
    assert [len(g.paths) for g in found] == [1, 2]
    assert found[1].targets() == [16, 20, 24, 28, 32]
    twice = found[1].transposed().transposed()
    assert twice == found[1]
    assert all(a.weight < b.weight for a, b in pairwise(found[1].paths))


def test_layouts():
    segments = (Segment(2, 0, 1), Segment(2, 1, -1))
    row = torch.tensor([[1.0, 2.0, 11.0, 12.0, 13.0, 21.0, 22.0, 23.0]], requires_grad=True)
    inside = to_ir_mul(row, segments)
    assert inside.tolist() == [[1, 2, 11, 21, 12, 22, 13, 23]]
    assert torch.equal(to_mul_ir(inside, segments), row)
    only = (Segment(8, 0, 1),)
    assert to_ir_mul(row, only) is row


def test_declines_name_the_reason(monkeypatch):
    spec, triton = scalars(), Triton()
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    table = TableSpec(1, 3, ((0.0, 1.0, 1),), 1)
    for given, reason in (
        ((spec, cpu, torch.float32), "on the CPU only in its interpreter (TRITON_INTERPRET=1)"),
        ((spec, torch.device("mps"), torch.float32), "the tensors are on mps"),
        ((table, cuda, torch.float32), "has no kernels for a TableSpec"),
        ((spec, cuda, torch.int32), "float64, float32, float16 and bfloat16 only, got torch.int32"),
    ):
        refusal = triton.supports(*given)
        assert refusal is not None
        assert reason in str(refusal)
        assert not refusal.loud
    assert triton.supports(spec, cuda, torch.bfloat16) is None
    with pytest.raises(UsageError, match=re.escape("declines: triton: runs on GPUs; on the CPU")):
        choose(spec, cpu, torch.float32, "triton")
    assert choose(spec, cpu, torch.float32).backend != "triton"


def test_a_kernel_without_a_loop_over_edges_is_one_program_for_all_stages():
    """It is compiled once, however many stages the others have."""
    spec = scalars()
    staged = [c for c in configs(spec) if (c.block, c.variant) == (16, "csr")]
    assert {c.stages for c in staged} == {1, 2, 3}
    found = [{s.name: s for s in sources(spec, c, torch.float32)} for c in staged]
    assert len({f["edges"].text for f in found}) == 1
    assert [f["edges"].options["num_stages"] for f in found] == [1] * len(staged)
    assert [f["edges"].constexprs["STAGES"] for f in found] == [1] * len(staged)
    assert [f["forward_0"].options["num_stages"] for f in found] == [c.stages for c in staged]


def test_pins_of_its_own_end_with_it():
    spec = scalars()
    mine, other = configs(spec)[:2]

    def stage():
        with own_pins():
            assert not pinned(spec, torch.float32)
            pin(spec, torch.float32, other)
            raise ZeroDivisionError

    with own_pins():
        pin(spec, torch.float32, mine)
        with pytest.raises(ZeroDivisionError):
            stage()
        assert config_for(spec, torch.float32) == mine


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "the package triton is not installed (pip install 'irprune[triton]')"),
        ("3.10.1", "works with triton 3.6 to 3.9, found 3.10.1"),
    ],
)
def test_without_a_triton_that_fits_the_decline_is_loud(found, reason, monkeypatch):
    monkeypatch.setattr(installed, "triton_version", lambda: found)
    refusal = Triton().supports(scalars(), torch.device("cuda"), torch.float32)
    assert refusal is not None
    assert refusal.loud
    assert str(refusal) == f"triton: {reason}"


def test_triton_is_asked_for_its_version_itself(monkeypatch):
    """Wheels for ROCm are called otherwise: what a distribution says is not asked for."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: 1 / 0)
    installed.triton_version.cache_clear()
    assert str(installed.triton_version()).startswith("3.")
    assert installed.missing_triton() is None


def test_an_interpreter_that_cannot_loop_is_declined(monkeypatch):
    monkeypatch.setattr(installed, "triton_version", lambda: "3.6.0")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    given = scalars(), torch.device("cpu"), torch.float32
    monkeypatch.setattr("numpy.__version__", "2.4.0")
    refusal = Triton().supports(*given)
    assert str(refusal) == (
        "triton: the interpreter of triton 3.6.0 needs numpy before 2.4, found 2.4.0"
    )
    assert refusal.loud
    monkeypatch.setattr("numpy.__version__", "2.3.5")
    assert Triton().supports(*given) is None
