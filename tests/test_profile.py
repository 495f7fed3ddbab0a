"""Profiles: every node timed, the sums, the peaks, two models in turn; on a small potential."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

import irprune
from irprune import api
from irprune.cli import main as cli
from irprune.data.generate import repeated
from irprune.errors import UsageError
from irprune.evaluation.potential import Potential
from irprune.profile.compare import Comparison, compare, in_turn
from irprune.profile.model import profile
from irprune.profile.peaks import Peaks, measure
from tests.passes import toy


@pytest.fixture(scope="module")
def found():
    graph = toy.graph()
    atoms = api.generated_frames(graph, 4)[0]
    return graph, atoms, profile(graph, atoms, repeats=2)


def test_every_call_is_timed(found):
    graph, atoms, made = found
    calls = {n.name for n in graph.gm.graph.nodes if n.op.startswith("call")}
    assert {n.node for n in made.nodes} == calls
    assert all(n.forward > 0 and n.backward >= 0 and n.bytes >= 0 for n in made.nodes)
    assert [n.seconds for n in made.nodes] == sorted((n.seconds for n in made.nodes), reverse=True)
    assert made.atoms == len(atoms)
    assert made.call > 0
    assert made.neighbours > 0


def test_what_leads_to_no_force_has_no_backward(found):
    by_name = {n.node: n for n in found[2].nodes}
    assert by_name["one_hot"].backward == by_name["embed"].backward == 0.0
    assert by_name["tp"].backward > 0
    assert by_name["radial"].backward > 0


def test_flops_are_those_of_the_cost_model(found):
    graph, _, made = found
    edges = made.edges / made.atoms
    want = graph.stats(edges_per_atom=edges).flops_per_atom * made.atoms
    assert sum(n.flops for n in made.nodes) == pytest.approx(want, rel=1e-9)


def test_sums_by_op_and_json(found):
    made = found[2]
    rows = made.by_op()
    assert sum(r["nodes"] for r in rows) == len(made.nodes)
    assert sum(r["forward"] + r["backward"] for r in rows) == pytest.approx(made.inside)
    said = json.loads(json.dumps(made.to_json()))
    assert said["atoms"] == made.atoms
    assert said["seconds_outside"] == pytest.approx(made.call - made.inside)


def test_the_least_time():
    peaks = Peaks(flops=100.0, bandwidth=10.0)
    assert peaks.least(50.0, 1.0) == 0.5
    assert peaks.least(50.0, 20.0) == 2.0
    measured = measure(torch.float32, repeats=1)
    assert measured.flops > 1e8
    assert measured.bandwidth > 1e7


def test_optimized_nodes_are_profiled(found):
    graph, atoms, _ = found
    made = profile(irprune.run("fuse-conv,share-pairs", graph), atoms, repeats=1)
    (conv,) = [n for n in made.nodes if n.op == "convolution"]
    assert conv.backward > 0


def test_repeated():
    atoms = bulk("Cu", cubic=True)
    assert len(repeated(atoms, 4)) == 4
    assert len(repeated(atoms, 30)) == 32
    assert len(repeated(Atoms("H"), 30)) == 1


def test_nothing_to_measure(found):
    with pytest.raises(UsageError, match=r"^H has no atoms closer than 3\.0 Å"):
        profile(found[0], Atoms("H"))
    with pytest.raises(UsageError, match="profile needs an interatomic potential"):
        profile(found[0].replace(atomistic=None), Atoms("H"))


class Clock:
    """Moves on only where it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_calls_are_timed_in_turn():
    clock, order, slowness = Clock(), [], [1.0]

    def model(name, cost):
        def run():
            order.append(name)
            clock.now += cost * slowness[0]
            slowness[0] *= 1.5  # the machine gets busier with every call

        return run

    rounds = in_turn([model("a", 2.0), model("b", 1.0)], 4, clock)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert [b / a for a, b in rounds] == pytest.approx([0.75, 1 / 3, 0.75, 1 / 3])


def test_compare_times_nodes_one_after_the_other_and_calls_in_turn(found, monkeypatch):
    graph, atoms, _ = found
    other = irprune.run("fuse-conv,share-pairs", graph)
    clock, order, steps = Clock(), [], []
    evaluate = Potential.evaluate

    def counted(self, batch, **options):
        fused = any("fused" in name for name, _ in self.module.named_modules())
        order.append("other" if fused else "first")
        clock.now += 1.0 if fused else 4.0
        return evaluate(self, batch, **options)

    monkeypatch.setattr(Potential, "evaluate", counted)
    made = compare(graph, other, atoms, 3, lambda label, done, total: steps.append(label), clock)
    assert order[6:] == ["first", "other"] * 2 + ["other", "first", "first", "other"]
    assert (made.rounds, made.ratio) == (((4.0, 1.0),) * 3, 0.25)
    assert (made.first.call, made.second.call) == (4.0, 1.0)
    assert list(dict.fromkeys(steps)) == ["nodes", "nodes of the second", "calls in turn"]
    assert {n.op for n in made.second.nodes} - {n.op for n in made.first.nodes} >= {"convolution"}
    assert made.first.peaks == made.second.peaks
    assert made.first.edges == made.second.edges


def test_the_ratio_is_the_median_of_the_rounds(found):
    made = Comparison(found[2], found[2], ((1.0, 0.5), (2.0, 0.2), (4.0, 0.8)))
    assert made.ratios == pytest.approx((0.5, 0.1, 0.2))
    assert made.ratio == pytest.approx(0.2)


def test_compare_needs_structures_that_both_know(found):
    graph, atoms, _ = found
    with pytest.raises(UsageError, match="profile needs an interatomic potential"):
        compare(graph, graph.replace(atomistic=None), atoms)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    graph = toy.graph()
    graph.save(folder / "toy.irp")
    irprune.run("fuse-conv,share-pairs", graph).save(folder / "fast.irp")
    return folder


def verb(*args):
    """Exit code, stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.run(["profile", *map(str, args)])
    return code, out.getvalue()


def test_the_verb_compares_and_writes_a_page(files):
    page = files / "page.html"
    small = ("--atoms", 8, "--repeats", 1, "--json")
    code, out = verb(files / "toy.irp", "--compare", files / "fast.irp", "--html", page, *small)
    said = json.loads(out)
    assert code == 0
    assert said["ratios"] == [said["ratio"]]
    assert said["ratio"] == pytest.approx(said["other"]["seconds_call"] / said["seconds_call"])
    assert said["other"]["model"] == str(files / "fast.irp")
    kept = set(said) - {"structure", "other", "ratio", "ratios", "seed", "versions"}
    assert set(said["other"]) == kept
    text = page.read_text()
    assert '<div class="tree-time">' in text, "nodes have their times in the picture"
    for row in (*said["by_op"], *said["other"]["by_op"]):
        assert f"<td>{row['op']}</td><td class=n>{row['forward'] * 1e3:.2f}</td>" in text
    code, out = verb(files / "toy.irp", *small)
    assert (code, json.loads(out)["other"], json.loads(out)["ratio"]) == (0, None, None)


def test_errors_of_the_verb(files, capsys):
    toy_file = files / "toy.irp"
    assert cli.run(["profile", str(toy_file), "--html", "/no/such/folder/p.html"]) == 2
    assert "there is no folder /no/such/folder" in capsys.readouterr().err
    assert cli.run(["profile", str(toy_file), "--html", str(files)]) == 2
    assert "it is a folder" in capsys.readouterr().err
    assert cli.run(["profile", str(toy_file), "--compare", str(files / "no.irp")]) == 2
    assert "no.irp" in capsys.readouterr().err


def test_elements_must_be_known_to_both(files, capsys):
    oxygen = files / "oxygen.irp"
    irprune.run("fold-onehot,specialize-elements{elements=[O]}", toy.graph()).save(oxygen)
    molecule = Atoms("OH", [[0, 0, 0], [0, 0, 1.0]])
    write(files / "oh.extxyz", molecule)
    args = [str(files / "toy.irp"), "--compare", str(oxygen), "--data", str(files / "oh.extxyz")]
    assert cli.run(["profile", *args]) == 2
    error = capsys.readouterr().err
    assert f"cannot run {oxygen} on the structure in {files / 'oh.extxyz'}" in error
    code, out = verb(*args[:3], "--atoms", 2, "--repeats", 1, "--json")
    assert (code, set(json.loads(out)["structure"]) - set("0123456789")) == (0, {"O"})
