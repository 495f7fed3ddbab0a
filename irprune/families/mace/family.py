"""MaceFamily: the protocol of a family, each part in its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from irprune.depth import Layer
from irprune.families.base import Legal, Loaded
from irprune.graph import EquivariantGraph
from irprune.tracing.capture import Replacement


class MaceFamily:
    """MACE and ScaleShiftMACE models, as mace-torch saves them whole (``.model`` files)."""

    name = "mace"
    reload_dtypes = ("float32", "float64")

    def claims(self, name_or_path: str) -> bool:
        from irprune.families.mace import load

        return load.is_mace_file(Path(name_or_path))

    def load(self, name_or_path: str, trust: bool) -> Loaded:
        from irprune.families.mace import load

        return load.load(Path(name_or_path), trust)

    def core(self, loaded: Loaded) -> nn.Module:
        from irprune.families.mace import ops  # noqa: F401 - registers them
        from irprune.families.mace.core import MaceCore

        return MaceCore(loaded.module).eval()

    def replacements(self) -> Sequence[Replacement]:
        from irprune.families.mace.core import replacements

        return replacements()

    def labels(self, graph: EquivariantGraph) -> Mapping[str, str]:
        from irprune.families.mace.structure import layer_labels

        return layer_labels(graph)

    def layers(self, graph: EquivariantGraph) -> Sequence[Layer]:
        from irprune.families.mace.depth import layers

        return layers(graph)

    def renumbered(self, graph: EquivariantGraph, dropped: Sequence[int]) -> EquivariantGraph:
        """No MACE class has a layer of which only the readout is left, so this is no MACE any more."""
        return graph.replace(source=None)

    def legal(self, graph: EquivariantGraph) -> Legal:
        from irprune.families.mace.structure import legal

        return legal(graph)

    def counts_for(self, graph: EquivariantGraph, irreps: str) -> Mapping[str, int]:
        from irprune.families.mace.structure import counts_for

        return counts_for(graph, irreps)

    def export_native(self, graph: EquivariantGraph, path: Path) -> None:
        from irprune.families.mace.export import export_native

        export_native(graph, path)

    def export_surgery(self, graph: EquivariantGraph, path: Path) -> None:
        from irprune.families.mace.surgery import export_surgery

        export_surgery(graph, path)

    def fresh(self, graph: EquivariantGraph, seed: int) -> Loaded:
        from irprune.families.mace.export import fresh_model
        from irprune.families.mace.load import wrap

        return wrap(fresh_model(graph, seed), "")

    def reload_script(self) -> str:
        from irprune.families.mace.reload import SCRIPT

        return SCRIPT
