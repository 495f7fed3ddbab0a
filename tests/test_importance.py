"""What scores say about a model: layers, elements, and the stability of a ranking."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms

from irprune import importance
from irprune.cli import main as cli
from irprune.cli.show_scores import importance_of
from irprune.errors import UsageError
from irprune.passes.criteria.loop import memberships
from irprune.passes.score import Score
from irprune.passmanager import PassContext
from tests.passes import toy


@pytest.fixture(scope="module")
def graph(unscripted):
    return toy.graph()


def frames():
    """Four structures: the elements are shared unevenly."""
    a, b, c, d = toy.frames(4)
    b.symbols[:] = "OOC"
    d.symbols[:] = "OOO"
    return [a, b, c, d]


def scored(graph, structures, **options):
    options.setdefault("probes", 0)
    return Score(**options).run(graph, PassContext(frames=structures)).scores


# ---- layers


def test_axes_belong_to_the_layer_that_is_made_from_them(graph):
    labels = {"embedding": "embed", "layer 0": "gate"}
    layers = importance.layer_of_axes(graph.replace(labels=labels))
    assert layers["embed:0e"] == "embedding"
    assert {layers[n] for n in ("sh", "tp.path", "radial.hidden0")} <= {"embedding", "layer 0"}
    assert {layers[a.name] for a in graph.axes() if a.node == "gate"} == {"layer 0"}
    assert {layers[a.name] for a in graph.axes() if a.node == "square"} == {"readout"}
    assert set(importance.layer_of_axes(graph).values()) == {"model"}


def test_layers_add_up_to_the_whole(graph):
    named = graph.replace(labels={"embedding": "embed", "layer 0": "gate"})
    values = np.random.default_rng(0).random(graph.blocks.n_classes)
    found = importance.by_layer(named, values)
    assert list(found) == ["embedding", "layer 0", "readout"]
    assert sum(found.values()) == pytest.approx(importance.total(graph, values), rel=1e-12)
    gate = [c for a in graph.axes() if a.node == "gate" for c in a.groups]
    values[gate] += 100.0
    more = importance.by_layer(named, values)
    assert more["layer 0"] - found["layer 0"] == pytest.approx(100.0 * len(gate))
    assert more["embedding"] == found["embedding"]


def test_what_has_no_score_is_not_in_the_sums(graph):
    values = np.full(graph.blocks.n_classes, np.nan)
    assert importance.by_layer(graph, values) == {"model": None}
    values[graph.axes()[0].groups[0]] = 2.0
    assert importance.by_layer(graph, values) == {"model": 2.0}


def test_scores_are_given_for_every_axis(graph):
    found = importance.scores_json(graph.replace(scores=scored(graph, toy.frames(1))))
    assert [(a["name"], len(a["scores"])) for a in found["axes"]] == [
        (a.name, len(a.groups)) for a in graph.axes()
    ]
    assert {a["kind"] for a in found["axes"]} >= {"channel", "radial", "path", "edge"}
    with pytest.raises(UsageError, match="the graph has no scores; run score first"):
        importance.scores_json(graph)


# ---- elements


def test_an_element_weighs_structures_by_its_share_of_the_atoms(graph):
    found = scored(graph, frames()).detail["elements"]
    single = [importance.total(graph, scored(graph, [atoms]).values) for atoms in frames()]
    shares = {"H": (1, 0, 1, 0), "C": (1, 1, 1, 0), "O": (1, 2, 1, 3)}
    assert set(found) == set(shares)
    for element, share in shares.items():
        assert found[element] == pytest.approx(np.average(single, weights=share), rel=1e-9)


# ---- stability


def halves_of(all_frames, seed=0):
    weights = memberships(all_frames, seed)
    return [[a for a, w in zip(all_frames, weights[:, row], strict=True) if w] for row in (1, 2)]


def test_halves_are_scored_by_themselves(graph):
    all_frames = frames()
    detail = scored(graph, all_frames).detail
    even, odd = (scored(graph, half).values for half in halves_of(all_frames))
    axis = next(a for a in graph.axes() if a.kind == "radial")
    a, b = (np.argsort(np.argsort(v[list(axis.groups)])) for v in (even, odd))
    n = len(a)
    expected = 1 - 6 * ((a - b) ** 2).sum() / (n * (n * n - 1))
    assert detail["stability"]["axes"][axis.name] == pytest.approx(expected, abs=1e-12)
    groups = [c for x in graph.axes() for c in x.groups]
    overall = importance.rank_correlation(even[groups], odd[groups])
    assert detail["stability"]["overall"] == pytest.approx(overall, abs=1e-12)
    assert -1 <= overall < 1


def test_halves_share_what_takes_turns_in_a_file():
    """Generated kinds take turns: halves by even and odd number would have no kind in common."""
    kinds = [Atoms("H"), Atoms("O")] * 12
    shared = 0
    for seed in range(5):
        first, second = halves_of(kinds, seed)
        assert len(first) == len(second) == 12
        assert sorted(map(id, (*first, *second))) == sorted(map(id, kinds))
        shared += all(len({str(a.symbols) for a in half}) == 2 for half in (first, second))
    assert shared == 5
    assert [len(h) for h in halves_of(kinds[:3])] == [2, 1]


def test_equal_halves_rank_alike(graph):
    atoms = toy.frames(1)[0]
    detail = scored(graph, [atoms, atoms.copy()]).detail
    assert detail["stability"]["overall"] == pytest.approx(1.0, abs=1e-12)


def test_rank_correlation():
    rank = importance.rank_correlation
    up = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank(up, up**3) == pytest.approx(1.0)
    assert rank(up, -up) == pytest.approx(-1.0)
    assert rank(up, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert rank(up, np.array([1.0, 3.0, np.nan, 4.0])) == pytest.approx(1.0)
    assert rank(up, np.array([1.0, np.nan, np.nan, 4.0])) is None
    assert rank(up, np.ones(4)) is None


@pytest.mark.parametrize("by", ["random", "magnitude", "redundancy"])
def test_criteria_without_data_have_no_stability(graph, by):
    detail = scored(graph, frames(), by=by).detail
    assert detail["stability"] is None
    assert detail["elements"] is None
    assert "structures" not in detail


def test_one_structure_has_no_halves(graph):
    assert scored(graph, toy.frames(1)).detail["stability"] is None


def test_memberships():
    found = memberships([Atoms("OHH"), Atoms("HH"), Atoms("O")], seed=0)
    assert found[:, 0].tolist() == [1, 1, 1]
    assert found[:, 1:3].sum(dim=1).tolist() == [1, 1, 1]
    assert found[:, 3:].tolist() == [
        [pytest.approx(2 / 3), pytest.approx(1 / 3)],
        [1, 0],
        [0, 1],
    ]


# ---- the command line


@pytest.fixture(scope="module")
def model(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy.irp"
    graph.save(path)
    return str(path)


def test_show_gives_every_score(graph, model, tmp_path, capsys):
    data, page = tmp_path / "labelled.xyz", tmp_path / "page.html"
    from ase.io import write

    write(data, toy.labelled())
    options = ["--scores", "fisher", "--data", str(data), "--html", str(page), "--json"]
    assert cli.run(["show", model, *options]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    assert found["criterion"] == "fisher"
    assert found["structures"] == 2
    assert set(found["elements"]) == {"H", "C", "O"}
    expected = scored(graph, toy.labelled(), by="fisher").values
    for shown, axis in zip(found["axes"], graph.axes(), strict=True):
        np.testing.assert_allclose(shown["scores"], expected[list(axis.groups)], rtol=1e-5)
    text = page.read_text(encoding="utf-8")
    for part in (
        "Importance by fisher",
        "On 2 structures",
        "Spearman",
        "Sum by element",
        "<polygon",
    ):
        assert part in text


def test_show_scores_by_energy_force_unless_told(model, capsys):
    assert cli.run(["show", model, "--scores", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["criterion"] == "energy-force"
    assert cli.run(["show", model, "--scores", "random"]) == 0
    printed = capsys.readouterr().out
    assert "importance by random" in printed
    assert "rank correlation" not in printed
    assert cli.run(["show", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] is None


def test_show_reads_data_only_to_score(model, capsys):
    assert cli.run(["show", model, "--data", "x.xyz"]) == 2
    assert "show reads --data only to score on: give --scores as well" in capsys.readouterr().err


def test_blocks_without_a_score_are_not_drawn(graph):
    found = importance.scores_json(graph.replace(scores=scored(graph, frames(), by="magnitude")))
    shown = importance_of(found)
    assert shown.structures is None
    assert shown.elements == {}
    assert sum(len(v) for by in shown.blocks.values() for v in by.values()) == sum(
        len(a.groups) for a in graph.axes() if a.kind == "channel" and a.ir[:-1].isdigit()
    )
