"""A layer that e3nn does not have."""

import torch
from e3nn import o3
from torch import nn


class Saturation(nn.Module):
    """Each block x divided by √(1 + b² + |x|²), with one trained b per block."""

    def __init__(self, irreps):
        super().__init__()
        self.irreps_in = o3.Irreps(irreps)
        self.weight = nn.Parameter(torch.ones(self.irreps_in.num_irreps))

    def forward(self, x):
        parts = []
        for cut, (mul, ir), b in zip(
            self.irreps_in.slices(),
            self.irreps_in,
            self.weight.split([mul for mul, _ in self.irreps_in]),
            strict=True,
        ):
            block = x[..., cut].unflatten(-1, (mul, ir.dim))
            size = (1 + b.square()).unsqueeze(-1) + block.square().sum(-1, keepdim=True)
            parts.append((block / size.sqrt()).flatten(-2))
        return torch.cat(parts, dim=-1)
