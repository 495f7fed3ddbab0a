"""Melts by molecular dynamics with a model, and the verb that writes structures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from ase.io import read

import irprune
from irprune.cli.main import run
from irprune.data.generate import closeness, generate
from irprune.data.melts import CLOSEST, melts
from irprune.data.neighbours import neighbour_list
from irprune.errors import DataError, UsageError
from tests.passes import toy


def test_melts_move_away_from_their_crystals_and_repeat():
    found, again = (melts(["Cu", "Ag"], 3, 5, EMT(), max_atoms=12, steps=40) for _ in range(2))
    starts = generate(["Cu", "Ag"], 3, 5, ("rattled",), 12)
    for a, b, start in zip(found, again, starts, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert (a.numbers == start.numbers).all()
        assert np.abs(a.positions - start.positions).max() > 0.3
        assert closeness(a) >= CLOSEST
        assert a.calc is None
        assert (a.info["kind"], a.info["prototype"]) == ("melt", start.info["prototype"])
    other = melts(["Cu", "Ag"], 3, 6, EMT(), max_atoms=12, steps=40)
    assert not np.array_equal(other[0].numbers, found[0].numbers) or not np.allclose(
        other[0].positions, found[0].positions
    )


def test_what_flies_apart_is_an_error():
    graph = toy.graph()
    with torch.no_grad():  # atoms are torn apart, or fall into each other
        graph.gm.get_submodule("out").weight.mul_(1e3)
    wild = irprune.calculator(graph)
    with pytest.raises(DataError, match=r"flies apart at 300 K and three halves"):
        melts(["O", "C"], 6, 0, wild, temperature=300, max_atoms=6)
    with pytest.raises(UsageError, match="temperature above 0 K"):
        melts(["Cu"], 1, 0, EMT(), temperature=0)


class Torn(EMT):
    """Forces that are not numbers after some calls, as of a model far outside of what it knows."""

    calls = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        Torn.calls += 1
        if Torn.calls in self.bad:
            self.results["forces"] = self.results["forces"] * np.nan

    def check_state(self, atoms, tol=1e-15):
        neighbour_list(atoms, 3.0)  # raises DataError for positions that are not finite
        return super().check_state(atoms, tol)


def test_a_run_whose_positions_are_lost_is_made_again_cooler():
    Torn.calls, Torn.bad = 0, (3,)
    (found,) = melts(["Cu"], 1, 5, Torn(), max_atoms=8, steps=10)
    assert np.isfinite(found.positions).all()
    Torn.calls, Torn.bad = 0, range(10**6)
    with pytest.raises(DataError, match="flies apart at 3000 K and three halves"):
        melts(["Cu"], 1, 5, Torn(), max_atoms=8, steps=10)


def test_the_verb_writes_kinds_in_turn(tmp_path, capsys):
    model, out = tmp_path / "toy.irp", tmp_path / "a.extxyz"
    graph = toy.graph()
    with torch.no_grad():  # forces that move nothing
        graph.gm.get_submodule("out").weight.mul_(1e-4)
    graph.save(str(model))
    args = ["generate", str(model), "-n", "7", "--elements", "O,C", "--kinds", "rattled,melt"]
    args += ["--max-atoms", "6", "--temperature", "300", "-o", str(out), "--json"]
    assert run(args) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kinds"] == {"rattled": 4, "melt": 3}
    frames = read(out, ":")
    assert sorted(a.info["kind"] for a in frames) == ["melt"] * 3 + ["rattled"] * 4
    assert {s for a in frames for s in a.get_chemical_symbols()} <= {"O", "C"}
    assert run([*args[:4], "--elements", "U", "-o", str(out)]) == 2
    assert "element U is not known" in capsys.readouterr().err
    assert run([*args[:4], "--kinds", "gas", "-o", str(out)]) == 2
    assert "kinds must be some of" in capsys.readouterr().err
    assert run([*args[:4], "-o", str(tmp_path / "a.bin")]) == 2
    assert "ASE knows no format for a.bin; name a file that ends in" in capsys.readouterr().err
