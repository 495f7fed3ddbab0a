"""SevenNetFamily: the protocol of a family, each part in its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from irprune.depth import Layer
from irprune.errors import LegalityError
from irprune.families.base import Legal, Loaded
from irprune.functional import message_gather
from irprune.graph import EquivariantGraph
from irprune.tracing.capture import Replacement


class SevenNetFamily:
    """SevenNet checkpoints (``.pth`` of sevenn 0.9 to 0.10) and the weights inside its package."""

    name = "sevennet"
    reload_dtypes = ("float32",)
    """Precisions that the family's own calculator runs in."""

    def claims(self, name_or_path: str) -> bool:
        from irprune.families.sevennet import load

        if Path(name_or_path).is_file():
            return load.is_checkpoint(name_or_path)
        return load.is_name(name_or_path)

    def load(self, name_or_path: str, trust: bool) -> Loaded:
        from irprune.families.sevennet import load

        return load.load(name_or_path, trust)

    def core(self, loaded: Loaded) -> nn.Module:
        from irprune.families.sevennet.core import SevenNetCore

        return SevenNetCore(loaded.module, len(loaded.atomistic.atomic_numbers)).eval()

    def replacements(self) -> Sequence[Replacement]:
        from irprune.families.sevennet.load import import_sevenn

        return ((import_sevenn().nn.convolution, "message_gather", message_gather),)

    def labels(self, graph: EquivariantGraph) -> Mapping[str, str]:
        from irprune.families.sevennet.structure import layer_labels

        return layer_labels(graph)

    def layers(self, graph: EquivariantGraph) -> Sequence[Layer]:
        from irprune.families.sevennet.depth import layers

        return layers(graph)

    def renumbered(self, graph: EquivariantGraph, dropped: Sequence[int]) -> EquivariantGraph:
        from irprune.families.sevennet.depth import renumbered

        return renumbered(graph, dropped)

    def legal(self, graph: EquivariantGraph) -> Legal:
        from irprune.families.sevennet.structure import legal

        return legal(graph)

    def counts_for(self, graph: EquivariantGraph, irreps: str) -> Mapping[str, int]:
        from irprune.families.sevennet.structure import counts_for

        return counts_for(graph, irreps)

    def export_native(self, graph: EquivariantGraph, path: Path) -> None:
        from irprune.families.sevennet.export import export_native

        export_native(graph, path)

    def export_surgery(self, graph: EquivariantGraph, path: Path) -> None:
        """Not meaningful here: a SevenNet checkpoint is a config and a state dict.

        Raises:
            LegalityError: always.
        """
        raise LegalityError(
            "SevenNet has no surgery tier: its checkpoints hold a config and weights, and its"
            " loader builds the layers from these; the tiers are native:sevennet and graph"
        )

    def fresh(self, graph: EquivariantGraph, seed: int) -> Loaded:
        from irprune.families.sevennet.export import fresh_model

        module, config = fresh_model(graph, seed)
        assert graph.atomistic is not None
        return Loaded(module, config, graph.atomistic, "")

    def reload_script(self) -> str:
        from irprune.families.sevennet.reload import SCRIPT

        return SCRIPT
