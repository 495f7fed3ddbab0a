"""reduce gives a graph on which the broken pass still fails, and from which nothing can be left out."""

from __future__ import annotations

import json
import shlex

import pytest

import irprune
from irprune.cli import main as cli
from irprune.debugging.cut import calls_of, cut
from irprune.debugging.reduce import reduce
from irprune.errors import LegalityError, PipelineError
from irprune.irreps import IrrepsType
from irprune.passmanager import Pipeline
from irprune.verification.ladder import network_rung
from tests.debugging.broken import broken  # noqa: F401
from tests.passes.golden_networks import network

pytestmark = pytest.mark.usefixtures("unscripted", "broken")


@pytest.fixture(scope="module")
def small():
    return network("small")


def test_the_fold_and_its_factor_are_left(small):
    found = reduce(Pipeline.parse("cse,fuse-conv,t-fuse-linear,cse"), small)
    assert found.pipeline.text() == "t-fuse-linear"
    assert found.failure.names == ("claim",)
    assert found.nodes_before == len(small.sites)
    ops = [s.node.name for s in found.graph.sites.values() if s.node.op.startswith("call")]
    assert ops in (["vectors", "mul"], ["truediv", "vectors"])
    assert len(found.graph.sites) == 4
    assert found.graph.atomistic is None


def test_an_error(small):
    found = reduce(Pipeline.parse("cse,t-raises"), small)
    assert found.pipeline.text() == "t-raises"
    assert [n for n in found.graph.sites if n != "output"][-1] == "tanh"
    assert calls_of(found.graph) == ("tanh",)


def test_nothing_fails(small):
    assert reduce(Pipeline.parse("cse"), small) is None


def test_a_model_that_cannot_be_checked(small, monkeypatch):
    from irprune.verification import ladder

    def fail(*args, **kwargs):
        raise LegalityError("no")

    monkeypatch.setattr(ladder, "types_rung", fail)
    with pytest.raises(PipelineError) as error:
        reduce(Pipeline.parse("cse"), small)
    assert str(error.value) == "the model cannot be checked before any pass: LegalityError: no"


def test_the_verb_and_what_it_says_to_do(small, tmp_path, capsys):
    path, out = str(tmp_path / "m.irp"), str(tmp_path / "small.irp")
    small.save(path)
    args = ["reduce", path, "-p", "cse,t-fuse-linear", "-o", out, "--json"]
    assert cli.run(args) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["nodes"] == 4
    assert answer["text"] == str(irprune.load(out))
    _, *command = shlex.split(answer["verify"])
    assert cli.run(command) == 1
    shown = capsys.readouterr()
    assert "claim" in shown.out
    assert "FAILED" in shown.out
    assert "is a network, no potential" in shown.err
    assert cli.run(["verify", out, "-p", "fuse-linear", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["pipeline"] == "fuse-linear"
    assert {c["name"] for c in answer["checks"]} == {"types", "claim"}
    assert cli.run(["reduce", path, "-p", "cse", "-o", str(tmp_path / "no.irp")]) == 2
    assert "there is nothing to reduce" in capsys.readouterr().err
    assert not (tmp_path / "no.irp").exists()


def test_verify_compares_networks(small, tmp_path, capsys):
    part = cut(small, ["vectors", "mul"])
    one, two = str(tmp_path / "a.irp"), str(tmp_path / "b.irp")
    part.save(one)
    irprune.run("t-fuse-linear", part).save(two)
    assert cli.run(["verify", two, "--against", one, "--no-reload", "--json"]) == 1
    failed = [c["name"] for c in json.loads(capsys.readouterr().out)["checks"] if not c["ok"]]
    assert failed == ["agreement"]
    assert cli.run(["verify", one, "--against", one, "--no-reload"]) == 0
    assert cli.run(["verify", one, "--data", path_of(tmp_path)]) == 2
    assert "does not run on atoms" in capsys.readouterr().err


def path_of(folder):
    path = folder / "x.xyz"
    path.write_text("1\n\nH 0 0 0\n")
    return str(path)


# ---- cuts


@pytest.mark.parametrize("start", range(0, 20, 3))
@pytest.mark.parametrize("length", [1, 4, 9])
def test_any_part_is_a_graph_or_declines(small, start, length):
    names = calls_of(small)[start : start + length]
    if not any(isinstance(small.sites[n].out, IrrepsType) for n in names):
        with pytest.raises(LegalityError, match=r"^none of these calls gives a value with irreps$"):
            cut(small, names)
        return
    part = cut(small, names)
    assert set(calls_of(part)) & set(names)
    assert str(cut(part, calls_of(part))) == str(part)
    for name, site in part.sites.items():
        if name in small.sites and site.node.op.startswith("call"):
            assert site.out == small.sites[name].out
    assert network_rung(part, part).value == 0.0


def test_the_whole_stays_the_whole(small):
    assert cut(small, calls_of(small)) is small
