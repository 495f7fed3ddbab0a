"""The energy core: sevenn's own layers, called one after the other on tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from irprune.functional import OneHot

SKIPPED = frozenset({"onehot_idx_to_onehot", "reduce_total_enegy", "force_output"})
"""Layers of ``AtomGraphSequential`` that are not called: sevenn's one-hot is float32 whatever the
model is, and the sums over atoms and derivatives are done outside of the core. (sic: ``enegy``)"""


class SevenNetCore(nn.Module):
    """forward(edge_vectors [E, 3] Å, species [N], edge_index [2, E], head [N]) → [N] eV."""

    def __init__(self, model: Any, num_species: int) -> None:
        super().__init__()
        self.onehot = OneHot(num_species)
        self.model = model

    def forward(
        self, edge_vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor
    ) -> Tensor:
        import sevenn._keys as key

        onehot = self.onehot(species)
        data = {
            key.EDGE_VEC: edge_vectors,
            key.EDGE_IDX: edge_index,
            key.ATOM_TYPE: species,
            key.NODE_FEATURE: onehot,
            key.NODE_ATTR: onehot,
        }
        for name, layer in self.model.named_children():
            if name not in SKIPPED:
                data = layer(data)
        return data[key.ATOMIC_ENERGY].squeeze(-1)
