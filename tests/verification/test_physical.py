from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor

from irprune.errors import DataError, UsageError
from irprune.evaluation.potential import Potential
from irprune.verification import physical
from irprune.verification.checks import Check, make_check
from tests.adapters import mace, sevennet
from tests.toys import TOY, Toy


def frames() -> list[Atoms]:
    out = [bulk("Cu", cubic=True), molecule("CH3CH2OH"), bulk("Si"), Atoms("O")]
    for i, atoms in enumerate(out):
        atoms.rattle(0.1, seed=i)
    return out


class Broken(Toy):
    """Breaks one law at a time."""

    def __init__(self, law: str) -> None:
        super().__init__()
        self.law = law

    def forward(self, vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor) -> Tensor:
        energy = super().forward(vectors, species, edge_index, head)
        if self.law == "rotation":
            extra = 1e-4 * vectors[:, 0] ** 2 * (16 - vectors.square().sum(1)).clamp(min=0) ** 2
            energy = energy.index_add(0, edge_index[0], extra)
        elif self.law == "permutation":
            energy = energy * (1 + 1e-6 * torch.arange(len(energy)).to(energy))
        elif self.law == "forces":  # a force on one atom that is not in the energy
            leak = vectors[:1].sum() * 1e-2 if len(vectors) else vectors.sum()
            energy = energy + (leak - leak.detach()) / len(energy)
        elif self.law == "nan":
            energy = energy * torch.nan
        return energy


def test_a_sound_model_passes_every_rung() -> None:
    toy = Potential(Toy(), TOY)
    calls: list[tuple[int, int]] = []
    checks = physical.run_ladder(
        toy, frames(), against=toy, progress=lambda i, n: calls.append((i, n))
    )
    assert [c.name for c in checks] == ["agreement", *physical.RUNGS]
    assert all(c.ok for c in checks), [str(c) for c in checks if not c.ok]
    assert calls[-1] == (9, 9)
    json.dumps([c.to_json() for c in checks])


@pytest.mark.parametrize(
    ("law", "rung"),
    [
        ("rotation", "rotation"),
        ("permutation", "permutation"),
        ("forces", "forces"),
        ("forces", "stress"),
        ("nan", "response"),
        ("nan", "rotation"),
        ("nan", "forces"),
        ("nan", "stress"),
        ("nan", "nve"),
        ("nan", "agreement"),
    ],
)
def test_a_broken_law_is_found(law: str, rung: str) -> None:
    broken = Potential(Broken(law), TOY)
    (check,) = physical.run_ladder(
        broken, frames()[:3], against=Potential(Toy(), TOY), steps=[rung]
    )
    assert not check.ok
    assert "FAILED" in str(check)


def test_a_model_that_sees_no_positions_is_found() -> None:
    """Every other rung passes: it is equivariant, and its forces are zero as they should be."""

    class Dead(Toy):
        def forward(self, vectors, species, edge_index, head):  # type: ignore[no-untyped-def]
            return species.double() * -1.5 + vectors.sum() * 1e-12

    apart = Atoms("O2", positions=[[0, 0, 0], [0, 0, 30]])
    dead = Potential(Dead(), TOY)
    passed = {c.name: c.ok for c in physical.run_ladder(dead, [*frames(), apart])}
    assert [name for name, ok in passed.items() if not ok] == ["response"]
    check = physical.response(dead, [*frames(), apart])
    assert str(check).startswith(
        "response: 1 (tolerance 0.5) FAILED; 3 of 3 structures without forces and stress, the largest"
    )
    alone = physical.response(dead, [apart])
    assert str(alone) == (
        "response: 0 (tolerance 0.5) ok; nothing was looked at: no structure has atoms that act on each"
        " other"
    )
    layer = Atoms("Cu", cell=[2.5, 2.5, 0], pbc=[True, True, False])
    assert physical.response(Potential(Toy(), TOY), [layer]).ok, "forces vanish by symmetry"
    alive = physical.response(Potential(Toy(), TOY), [bulk("Cu"), bulk("Si")])
    assert (alive.value, alive.ok) == (0.0, True)


def test_translation_notices_a_model_that_sees_where_the_cell_ends() -> None:
    class Wrong(Potential):
        def collate(self, frames):  # type: ignore[no-untyped-def]
            batch = super().collate(frames)
            inside = (batch.shifts == 0).all(1)
            return type(batch)(
                **{
                    **vars(batch),
                    "edge_index": batch.edge_index[:, inside],
                    "shifts": batch.shifts[inside],
                    "rounding": batch.rounding[inside],
                }
            )

    assert not physical.translation(Wrong(Toy(), TOY), frames()[:1]).ok


def test_inversion_holds_unless_the_model_is_chiral() -> None:
    chiral = Potential(Toy(chiral=True), TOY)
    assert physical.inversion(Potential(Toy(), TOY), frames()).ok
    assert not physical.inversion(chiral, frames()).ok
    assert physical.rotation(chiral, frames()).ok


def test_inversion_is_left_out_where_the_model_does_not_claim_it() -> None:
    from dataclasses import replace

    odd = Potential(Toy(chiral=True), replace(TOY, inversion=False))
    assert "inversion" not in [c.name for c in physical.run_ladder(odd, frames()[:1])]
    (check,) = physical.run_ladder(odd, frames()[:2], steps=["inversion"])
    assert not check.ok


def test_nve_notices_too_long_a_time_step() -> None:
    toy = Potential(Toy(), TOY)
    crystal = [bulk("Cu", cubic=True)]
    assert physical.nve(toy, crystal).ok
    assert not physical.nve(toy, crystal, timestep_fs=40.0, temperature_k=30000).ok


def test_agreement_measures_the_relative_difference() -> None:
    toy, other = Potential(Toy(), TOY), Potential(Toy(), TOY)
    assert physical.agreement(toy, other, frames(), "traced-original").value == 0
    with torch.no_grad():
        other.module.shift += 1e-9
    check = physical.agreement(toy, other, frames()[:1], "masked-sliced")
    batch = toy.collate(frames()[:1])
    energy = abs(toy.evaluate(batch).energy.item())
    assert check.value == pytest.approx(4e-9 / max(energy, 0.1), rel=1e-3)
    assert not check.ok
    assert physical.agreement(toy, toy.to(torch.float32), frames()).tolerance == 1e-4


def test_rungs_that_cannot_run_say_so() -> None:
    toy = Potential(Toy(), TOY)
    names = [c.name for c in physical.run_ladder(toy, [Atoms("O")])]
    assert "stress" not in names
    assert "nve" not in names
    with pytest.raises(DataError, match="full cell"):
        physical.run_ladder(toy, [molecule("H2O")], steps=["stress"])
    with pytest.raises(
        UsageError, match="unknown check warp; known are agreement, response, rotation"
    ):
        physical.run_ladder(toy, frames(), steps=["warp"])
    with pytest.raises(UsageError, match="second model"):
        physical.run_ladder(toy, frames(), steps=["agreement"])
    with pytest.raises(UsageError, match="at least one structure"):
        physical.run_ladder(toy, [])


def test_nan_is_never_ok_and_prints_as_json() -> None:
    check = make_check("x", math.nan, 1.0)
    assert not check.ok
    assert json.loads(json.dumps(check.to_json(), allow_nan=False))["value"] == "nan"
    assert make_check("x", 1.0, 1.0) == Check("x", 1.0, 1.0, True)


def perovskite() -> Atoms:
    atoms = Atoms(
        "SrTiO3",
        scaled_positions=[[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        cell=np.eye(3) * 3.95,
        pbc=True,
    )
    atoms.rattle(0.15, seed=0)
    return atoms


@pytest.mark.real
def test_sevennet_0_is_equivariant_under_rotation_but_not_inversion() -> None:
    single = Potential(*sevennet())
    double = single.to(torch.float64)
    names = ["rotation", "translation", "permutation", "forces", "stress"]
    with torch.jit.optimized_execution(False):  # compiling takes longer than running
        checks = physical.run_ladder(double, [perovskite()], steps=names)
        in_single = physical.rotation(single, [perovskite()])
        inverted = physical.inversion(double, [perovskite()])
    assert all(c.ok for c in [*checks, in_single]), list(map(str, [*checks, in_single]))
    assert checks[0].value > 1e-12  # constants are rounded to float32
    assert inverted.value > 1e-4


@pytest.mark.real
def test_mace_is_equivariant_under_inversion_too(shared: Path) -> None:
    module, about = mace(shared / "checkpoints" / "mace_mp_0_small.model")
    names = ["rotation", "inversion", "forces", "stress"]
    checks = physical.run_ladder(
        Potential(module, about).to(torch.float64), [perovskite()], steps=names
    )
    assert all(c.ok for c in checks), list(map(str, checks))
