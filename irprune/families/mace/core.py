"""The energy core of a MACE model: tensors in, atomic energies out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from irprune import functional
from irprune.families.mace.functional import ones_column, pair_item
from irprune.families.mace.library import import_mace
from irprune.functional import OneHot, sum_rows, take_head
from irprune.tracing.capture import Replacement


class MaceCore(nn.Module):
    """What ``ScaleShiftMACE.forward`` and ``MACE.forward`` compute as ``node_energy``.

    Follows mace-torch 0.3.16 term by term, so that both agree to the last bit. ``model`` is the
    original module, unmodified.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        like = next(model.parameters())
        self.onehot = OneHot(int(model.atomic_numbers.numel())).to(like.dtype)  # type: ignore[operator]

    def forward(
        self, edge_vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor
    ) -> Tensor:
        """Atomic energies [N] in eV.

        Args:
            edge_vectors: [E, 3] Å, from edge_index[0] to edge_index[1].
            species: [N] index into the model's atomic numbers.
            edge_index: [2, E].
            head: [N] index into the model's heads.
        """
        m: Any = self.model
        lengths = torch.linalg.norm(edge_vectors, dim=-1, keepdim=True)
        attrs = self.onehot(species)
        e0 = take_head(m.atomic_energies_fn(attrs), head)
        feats = m.node_embedding(attrs)
        harmonics = m.spherical_harmonics(edge_vectors)
        embedding = m.radial_embedding(lengths, attrs, edge_index, m.atomic_numbers)
        radial = pair_item(embedding, 0)
        cutoff = None if _applies_cutoff(m.radial_embedding) else pair_item(embedding, 1)
        if hasattr(m, "pair_repulsion"):
            terms = [m.pair_repulsion_fn(lengths, attrs, edge_index, m.atomic_numbers)]
        else:
            # mace adds a row of zeros here, which decides in which order the terms are summed
            terms = [e0 * 0.0]
        layers = []
        for i, (interaction, product) in enumerate(zip(m.interactions, m.products, strict=True)):
            message, skip = interaction(
                node_attrs=attrs,
                node_feats=feats,
                edge_attrs=harmonics,
                edge_feats=radial,
                edge_index=edge_index,
                **_optional(cutoff, i == 0),
            )
            feats = product(node_feats=message, sc=skip, node_attrs=attrs)
            layers.append(feats)
        for i, readout in enumerate(m.readouts):
            source = layers[-1 if len(m.readouts) == 1 else i]
            terms.append(take_head(readout(source, head), head))
        if not hasattr(m, "scale_shift"):
            return sum_rows([e0, *terms])
        return e0 + m.scale_shift(sum_rows(terms), head)


def _applies_cutoff(embedding: Any) -> bool:
    return bool(getattr(embedding, "apply_cutoff", True))


def _optional(cutoff: Tensor | None, first: bool) -> dict[str, Any]:
    return {
        "cutoff": cutoff,
        "first_layer": first,
        "lammps_class": None,
        "lammps_natoms": (0, 0),
    }


def product_forward(self: Any, node_feats: Tensor, sc: Tensor | None, node_attrs: Tensor) -> Tensor:
    """``EquivariantProductBasisBlock.forward`` without cuEquivariance, in steps that trace."""
    if getattr(self, "use_agnostic_product", False):
        node_attrs = ones_column(node_feats)
    out: Tensor = self.linear(self.symmetric_contractions(node_feats, node_attrs))
    return out + sc if self.use_sc and sc is not None else out


def replacements() -> Sequence[Replacement]:
    """Functions of mace that are recorded whole while tracing."""
    blocks = import_mace("mace.modules.blocks")
    return (
        (blocks, "scatter_sum", functional.scatter_sum),
        (blocks, "mask_head", functional.mask_head),
        (blocks.EquivariantProductBasisBlock, "forward", product_forward),
    )
