"""The cache: what its key holds, damaged, foreign, read-only and contested files, tables."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irprune.errors import UsageError
from irprune.kernels.triton import config as triton_config
from irprune.kernels.triton.config import Config, default
from irprune.kernels.tuner import cache, entry, lookup
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.entry import Entry, Key, Timed, bucket, key_of
from tests.kernels.tuner.fakes import candidate, scalars

pytest.importorskip("triton")

H100 = architecture_named("sm_90")
A, B = Config(16, 1, 1, "csr"), Config(32, 1, 2, "csr")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.TABLES, raising=False)
    cache._told.clear()
    lookup._lookup.cache_clear()
    yield
    lookup._lookup.cache_clear()


def key(**changes) -> Key:
    made = Key("spec", "float32", "ir_mul", 1, "sm_90", "3.9.0", "12.9.86", 32)
    return dataclasses.replace(made, **changes)


def compiled(k=None, complete=True) -> Entry:
    return Entry(k or key(), (candidate(A, 100.0), candidate(B, 50.0)), complete)


def timed(k=None) -> Entry:
    times = (Timed(A, (1.0, 2.0, 3.0)), Timed(B, (2.5, 2.5, 2.5)))
    return dataclasses.replace(compiled(k), timed=times, device="some GPU")


def test_there_and_back():
    for made in (compiled(), compiled(complete=False), timed()):
        assert cache.save(made)
        assert cache.load(made.key) == made
    assert cache.load(key(degree=64)) is None


def test_the_winner_is_the_fastest_by_median_else_the_most_promising():
    assert timed().winner == A
    assert (timed().stage, compiled().stage, compiled(complete=False).stage) == (2, 1, 0)
    assert compiled().winner == B
    assert compiled(complete=False).winner is None


def test_atomics_are_for_what_was_timed():
    """Their results differ from run to run: an estimate is no reason for that."""
    atomic = Config(16, 1, 1, "atomic")
    found = (candidate(atomic, 1.0), candidate(A, 100.0))
    assert Entry(key(), found, complete=True).winner == A
    assert Entry(key(), found[:1], complete=True).winner == atomic, "nothing else can be used"
    spills = (found[0], candidate(A, rejected="it spills"))
    assert Entry(key(), spills, complete=True).winner == atomic
    times = (Timed(atomic, (1.0,)), Timed(A, (2.0,)))
    assert Entry(key(), found, complete=True, timed=times, device="GPU").winner == atomic


def test_whatever_differs_is_another_key(monkeypatch):
    spec = scalars()
    base = key_of(spec, torch.float32, H100, 32)
    assert (base.architecture, base.degree, base.layout) == ("sm_90", 32, "ir_mul")
    assert base.revision == triton_config.REVISION
    others = [
        key_of(scalars(21), torch.float32, H100, 32),
        key_of(spec, torch.float64, H100, 32),
        key_of(spec, torch.float32, architecture_named("gfx942"), 32),
        key_of(spec, torch.float32, H100, 64),
    ]
    others += [
        dataclasses.replace(base, **{f: "other" if f != "revision" else 99})
        for f in ("layout", "revision", "triton", "ptxas")
    ]
    monkeypatch.setattr(entry, "REVISION", 99)
    assert key_of(spec, torch.float32, H100, 32) == dataclasses.replace(base, revision=99)
    assert len({k.name for k in (base, *others)}) == 1 + len(others)


@given(st.floats(0.01, 1e5))
def test_buckets_are_powers_of_two_and_near(degree):
    found = bucket(degree)
    assert found & (found - 1) == 0
    assert found == 1 or 2**-0.5001 <= degree / found <= 2**0.5001


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "list indices"),
        ('{"schema": 1}', "'key'"),
        ('{"schema": 9}', "schema 9 is not 1"),
    ],
)
def test_a_damaged_file_is_said_to_be_so_and_counts_as_missing(text, why, capsys):
    cache.save(compiled())
    path = cache.path_of(key())
    path.write_text(text)
    assert cache.load(key()) is None
    said = capsys.readouterr().err
    assert said.startswith(
        f"irprune: the tuned configurations in {path} are damaged and not used: "
    )
    assert why in said
    assert cache.save(compiled())
    assert cache.load(key()) == compiled()


def test_times_that_cannot_be_are_damage(capsys):
    cache.save(timed())
    path = cache.path_of(key())
    found = json.loads(path.read_text())
    found["timed"][0]["seconds"] = [0.0]
    path.write_text(json.dumps(found))
    assert cache.load(key()) is None
    assert "times must be positive numbers, got [0.0]" in capsys.readouterr().err


def test_a_file_of_another_key_is_not_used(capsys):
    cache.save(compiled())
    cache.path_of(key()).rename(cache.path_of(key(degree=8)))
    assert cache.load(key(degree=8)) is None
    assert "belong to another key and are not used" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_once(monkeypatch, capsys, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("IRPRUNE_CACHE", str(blocked))  # a file is no folder, for root as well
    assert not cache.save(compiled())
    assert not cache.save(compiled())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        f"irprune: tuned configurations cannot be kept in {blocked / 'tuned'}: "
    )


def test_a_read_only_folder(monkeypatch, capsys):
    """Root may write to read-only folders: the answer of the system is replaced, not the mode."""
    cache.save(timed())
    monkeypatch.setattr("irprune.files.os.access", lambda path, mode: False)
    assert not cache.save(compiled())
    assert "cannot be kept" in capsys.readouterr().err
    assert cache.load(key()) == timed()  # what is there is read


def _write(folder: str, seed: int) -> None:
    os.environ["IRPRUNE_CACHE"] = folder
    for i in range(20):
        times = (Timed(A, (seed + i + 1.0,)),)
        cache.save(dataclasses.replace(compiled(), timed=times, device=str(seed)))


def test_processes_that_write_at_once_leave_a_whole_file(tmp_path):
    context = multiprocessing.get_context("fork")
    folder = os.environ["IRPRUNE_CACHE"]
    writers = [context.Process(target=_write, args=(folder, seed)) for seed in range(3)]
    for w in writers:
        w.start()
    while any(w.is_alive() for w in writers):
        found = cache.read(key())
        assert found is None or found.stage == 2
    for w in writers:
        w.join()
        assert w.exitcode == 0
    assert cache.read(key()).stage == 2
    assert [p.name for p in cache.folder().iterdir()] == [f"{key().name}.json"]


# Tables


def test_tables_fill_in_what_is_not_known(monkeypatch, tmp_path):
    table = tmp_path / "table.json"
    cache.write_table(table, [timed()])
    cache.write_table(table, [compiled(key(degree=8))])  # added
    assert set(cache.read_table(table)) == {key(), key(degree=8)}
    monkeypatch.setenv(cache.TABLES, str(table))
    assert cache.load(key()) == timed()
    cache.save(compiled())
    assert cache.load(key()) == timed()  # timed tells more than compiled
    mine = dataclasses.replace(timed(), device="mine")
    cache.save(mine)
    assert cache.load(key()) == mine


def test_a_named_table_that_cannot_be_read_is_an_error(monkeypatch, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    monkeypatch.setenv(cache.TABLES, str(bad))
    with pytest.raises(UsageError) as error:
        cache.load(key())
    assert str(error.value) == (f"{bad} is no table of tuned configurations: KeyError: 'schema'")
    with pytest.raises(UsageError, match="is no table of tuned configurations"):
        cache.write_table(bad, [timed()])


def shipped():
    """Every entry of the tables that come with irprune."""
    paths = list(cache.SHIPPED.glob("*.json"))
    assert paths
    assert sum(p.stat().st_size for p in paths) < 300_000
    return [e for p in paths for e in cache.read_table(p).values()]


def test_shipped_tables_are_of_these_kernels():
    """Winners alone, by compilation, of kernels as they are generated now; nothing was timed."""
    for e in shipped():
        assert e.key.revision == triton_config.REVISION, "the kernels changed: make the table again"
        assert (e.stage, e.timed, e.device) == (1, (), None)
        assert [c.config for c in e.candidates] == [e.winner]
        assert not any(k.stack for c in e.candidates for k in c.kernels)
    assert {e.key.architecture for e in shipped()} == {"sm_80", "sm_90"}


def test_an_entry_alone_keeps_what_is_used():
    for made in (compiled(), timed()):
        alone = made.alone()
        assert (alone.winner, alone.stage, alone.key) == (made.winner, made.stage, made.key)
        assert len(alone.candidates) == 1
        assert Entry.from_json(json.loads(json.dumps(alone.to_json()))) == alone


@pytest.mark.real
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_a_layer_of_sevennet_0_is_in_the_shipped_table(architecture, monkeypatch, capsys):
    """In both layouts, with the versions that the table was made with; others are not taken over."""
    import irprune
    from irprune.irreps import Layout
    from irprune.ops.couplings import path_spec

    model = irprune.load("7net-0")
    (first, *rest) = [
        s.module for s in model.sites.values() if "convolution.convolution" in str(s.node.target)
    ]
    made = next(e.key for e in shipped() if e.key.architecture == architecture)
    monkeypatch.setattr(entry, "triton_version", lambda: made.triton)
    monkeypatch.setattr(entry, "assembler", lambda place: made.ptxas)
    place = architecture_named(architecture)
    for module in (first, *rest):
        spec = path_spec(module)
        for moved in (spec, spec.in_layout(Layout.IR_MUL)):
            found = cache.load(key_of(moved, torch.float32, place, 30.0))
            assert found is not None
            assert lookup.lookup(moved, torch.float32, place, 30.0) == found.winner
    said = capsys.readouterr().err
    assert "no configuration is timed for" in said
    assert "the default" not in said
    monkeypatch.setattr(entry, "triton_version", lambda: "3.7.0")
    assert cache.load(key_of(spec, torch.float32, place, 30.0)) is None


def test_another_number_of_edges_per_node_is_near():
    assert cache.load_near(key()) is None
    cache.save(compiled(key(degree=4)))
    cache.save(timed(key(degree=256)))
    assert cache.load_near(key(degree=4)).key.degree == 4
    assert cache.load_near(key(degree=16)).key.degree == 4
    assert cache.load_near(key(degree=32)).key.degree == 256, "both are three steps away"
    assert cache.load_near(key(degree=1)).key.degree == 4
    assert cache.load_near(key(degree=4096)).key.degree == 256
    assert cache.load_near(key(dtype="float64")) is None
    cache.save(compiled(key(degree=8), complete=False))
    assert cache.load_near(key(degree=8)).key.degree == 4, "what has no winner does not count"


# Where kernels run


def look(spec, degree=30.0):
    return lookup.lookup(spec, torch.float32, H100, degree)


def test_a_timed_configuration_is_used_without_a_word(capsys):
    spec = scalars()
    cache.save(timed(key_of(spec, torch.float32, H100, 32)))
    assert look(spec) == A
    assert capsys.readouterr().err == ""


def test_without_times_the_winner_of_compilation_is_used_and_said(capsys):
    spec = scalars()
    cache.save(compiled(key_of(spec, torch.float32, H100, 32)))
    assert look(spec) == look(spec, 33.0) == B
    assert capsys.readouterr().err == (
        f"irprune: no configuration is timed for {spec.key} on sm_90 in float32 with about 32 edges"
        " per node: the most promising one by compilation is used (irprune tune on that GPU times"
        " it)\n"
    )


def test_what_is_known_for_another_number_of_edges_is_used_and_said(capsys):
    spec = scalars()
    cache.save(timed(key_of(spec, torch.float32, H100, 32)))
    assert look(spec, 250.0) == A
    assert capsys.readouterr().err == (
        f"irprune: no configuration is timed for {spec.key} on sm_90 in float32 with about 256 edges"
        " per node: that for about 32 is used (irprune tune)\n"
    )


def test_without_anything_the_default_is_used_and_said(capsys):
    spec = scalars()
    cache.save(compiled(key_of(spec, torch.float32, H100, 32), complete=False))
    assert look(spec) == default(spec)
    assert capsys.readouterr().err == (
        f"irprune: the default configuration is used for {spec.key} on sm_90 in float32 with about 32"
        " edges per node: IRPRUNE_SURVEY=0 (irprune tune)\n"
    )


def test_a_winner_that_is_not_legal_is_not_used(capsys):
    spec = scalars()
    wide = Config(128, 4, 1, "csr")
    made = Entry(key_of(spec, torch.float32, H100, 32), (candidate(wide),), complete=True)
    cache.save(made)
    assert look(spec) == default(spec)
    assert capsys.readouterr().err == (
        f"irprune: the tuned configuration {wide} of {spec.key} on sm_90 in float32 with about 32 edges"
        " per node is not legal: the default is used\n"
    )


def test_on_the_cpu_and_where_it_is_pinned_nothing_is_asked(monkeypatch):
    spec = scalars()
    monkeypatch.setattr(triton_config, "_PINNED", {})
    assert lookup.chosen(spec, torch.zeros(3, 20), 9) == default(spec)
    triton_config.pin(spec, torch.float32, B)
    assert lookup.chosen(spec, torch.zeros(3, 20), 9) == B


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Tensors of this processor are served as those of an H100 are."""
    monkeypatch.setattr(lookup, "on_gpu", lambda x: True)
    monkeypatch.setattr(lookup, "known_architecture", lambda device: H100)
    monkeypatch.setattr(lookup, "_name", lambda device: "some GPU")
    monkeypatch.setattr(triton_config, "_PINNED", {})


@pytest.mark.usefixtures("as_on_a_gpu")
def test_files_and_compilers_are_asked_once(monkeypatch):
    """What a call of a kernel costs the host decides about small systems."""
    spec, asked = scalars(), []
    cache.save(timed(key_of(spec, torch.float32, H100, 32)))
    monkeypatch.setattr(lookup, "key_of", lambda *a: asked.append(a) or key_of(*a))
    for edges in (90, 99, 93):
        assert lookup.chosen(spec, torch.zeros(3, 20), edges) == A
    assert len(asked) == 1


@pytest.mark.usefixtures("as_on_a_gpu")
def test_torch_compile_takes_the_configuration_as_a_constant():
    """fullgraph: nothing of the way to it is traced."""
    spec = scalars()
    cache.save(timed(key_of(spec, torch.float32, H100, 32)))

    def block(x):
        return x * lookup.chosen(spec, x, 90).block

    made = torch.compile(block, fullgraph=True, backend="eager", dynamic=True)
    for rows in (3, 5):
        assert torch.equal(made(torch.ones(rows, 20)), torch.full((rows, 20), 16.0))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_time_of_another_gpu_is_used_and_said(monkeypatch, capsys):
    spec = scalars()
    cache.save(timed(key_of(spec, torch.float32, H100, 32)))
    monkeypatch.setattr(lookup, "_name", lambda device: "another GPU")
    assert lookup.chosen(spec, torch.zeros(3, 20), 96) == A
    assert capsys.readouterr().err == (
        f"irprune: the configuration of {spec.key} on sm_90 in float32 with about 32 edges per node"
        " was timed on some GPU, and not on another GPU\n"
    )


def test_a_gpu_that_is_not_known_gets_the_default(monkeypatch, capsys):
    spec = scalars()
    monkeypatch.setattr(lookup, "on_gpu", lambda x: True)
    monkeypatch.setattr(triton_config, "_PINNED", {})
    monkeypatch.setattr(lookup, "architecture_of", lambda d: architecture_named("sm_121"))
    lookup.known_architecture.cache_clear()
    try:
        assert lookup.chosen(spec, torch.zeros(3, 20), 9) == default(spec)
    finally:
        lookup.known_architecture.cache_clear()
    assert capsys.readouterr().err.startswith(
        "irprune: nothing can be tuned for cpu, the default configurations are used: no GPU"
        " architecture is called 'sm_121'"
    )
