"""Small smooth models with the signature of a model, for tests of what runs on atoms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irprune.atomistic import Atomistic

TOY = Atomistic("custom", 4.0, (1, 6, 8, 14, 29), dtype="float64", name="toy")


def envelope(r: Tensor, cutoff: float = 4.0) -> Tensor:
    x = (1 - (r / cutoff) ** 2).clamp(min=0)
    return x**3


class Toy(nn.Module):
    """Two-body and angular terms: A_i = Σ_j c_{z_i z_j} f(r) (1, r̂, r̂r̂); E_i = MLP(invariants).

    ``chiral=True`` adds the triple product of three vectors, odd under inversion.
    """

    def __init__(self, channels: int = 4, seed: int = 0, chiral: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.pair = parameter(5, 5, channels)
        self.decay = nn.Parameter(torch.linspace(0.3, 1.5, channels, dtype=torch.float64))
        self.first = parameter(3 * channels, 8)
        self.second = parameter(8)
        self.shift = parameter(5)
        self.chiral = chiral

    def forward(self, vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor) -> Tensor:
        i, j = edge_index[0], edge_index[1]
        r = vectors.norm(dim=1, keepdim=True)
        radial = self.pair[species[i], species[j]] * torch.exp(-self.decay * r) * envelope(r)
        unit = vectors / r
        n, channels = species.shape[0], radial.shape[1]
        scalar = radial.new_zeros(n, channels).index_add(0, i, radial)
        vector = radial.new_zeros(n, channels, 3).index_add(0, i, radial[..., None] * unit[:, None])
        matrix = radial.new_zeros(n, channels, 3, 3).index_add(
            0, i, radial[..., None, None] * (unit[:, :, None] * unit[:, None, :])[:, None]
        )
        features = torch.cat(
            [scalar, vector.square().sum(-1), matrix.square().sum((-1, -2))], dim=1
        )
        energy = torch.tanh(features @ self.first) @ self.second + self.shift[species]
        if self.chiral:
            a, b, c = vector[:, 0], vector[:, 1], vector[:, 2]
            energy = energy + 10 * (torch.linalg.cross(a, b) * c).sum(-1)
        return energy
