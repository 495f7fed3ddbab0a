"""A small interatomic potential of e3nn layers, as a graph that runs on atoms."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from e3nn import nn as enn
from e3nn import o3
from torch import nn

import irprune
from irprune.atomistic import Atomistic
from irprune.functional import OneHot, scatter_sum

ELEMENTS = (1, 6, 7, 8, 9, 14, 15, 16)


class Potential(nn.Module):
    """One convolution over edges, a gate, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.one_hot = OneHot(len(ELEMENTS))
        self.embed = o3.Linear("8x0e", "4x0e")
        self.sh = o3.SphericalHarmonics([0, 1, 2], True, "component")
        self.tp = o3.TensorProduct(
            "4x0e",
            "1x0e+1x1o+1x2e",
            "4x0e+4x1o+4x2e",
            [(0, i, i, "uvu", True) for i in range(3)],
            shared_weights=False,
        )
        self.radial = enn.FullyConnectedNet([1, 5, self.tp.weight_numel], torch.nn.functional.silu)
        self.gate = enn.Gate("3x0e", [torch.tanh], "2x0e", [torch.sigmoid], "2x1o")
        self.mix = o3.Linear(self.tp.irreps_out, self.gate.irreps_in)
        self.square = o3.FullyConnectedTensorProduct("3x0e+2x1o", "3x0e+2x1o", "3x0e")
        self.out = o3.Linear("3x0e", "1x0e")

    def forward(self, edge_vectors, species, edge_index, head):
        x = self.embed(self.one_hot(species))
        r = torch.linalg.norm(edge_vectors, dim=1, keepdim=True)
        message = self.tp(x[edge_index[1]], self.sh(edge_vectors), self.radial(r))
        total = scatter_sum(message, edge_index[0], dim=0, dim_size=species.shape[0])
        y = self.gate(self.mix(total))
        return self.out(self.square(y, y)).squeeze(-1)


def graph():
    torch.manual_seed(1)
    traced = irprune.trace(
        Potential().double(),
        {
            "edge_vectors": "edge:1x1o",
            "species": "index",
            "edge_index": "edge_index",
            "head": "index",
        },
    )
    return traced.replace(atomistic=Atomistic("custom", 3.0, ELEMENTS, dtype="float64", name="toy"))


def frames(n: int = 2) -> list[Atoms]:
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, 0, 0], [1.1, 0, 0], [0.2, 1.0, 0.3]])
    return [Atoms("OHC", positions=shape + 0.1 * rng.standard_normal((3, 3))) for _ in range(n)]


def labelled(n: int = 2) -> list[Atoms]:
    """The frames with energies and forces that are not the potential's."""
    rng = np.random.default_rng(7)
    out = frames(n)
    for atoms in out:
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
    return out
