"""What a model family tells the compiler: how to load, trace, constrain and export its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from irprune.tracing.capture import Replacement

if TYPE_CHECKING:
    from irprune.atomistic import Atomistic
    from irprune.depth import Layer
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class Loaded:
    """A checkpoint as its own library loads it."""

    module: nn.Module
    config: Mapping[str, Any]
    """What else its family keeps of it. ``reload_dtypes``: where its own library runs the file in
    these precisions only."""
    atomistic: Atomistic
    path: str
    notes: tuple[str, ...] = ()
    """What was done to the checkpoint that its owner should know; told on stderr."""


@dataclass(frozen=True)
class Tie:
    """Axes whose kept counts move in step: removing one step removes ``per_step`` groups of each."""

    label: str
    members: tuple[tuple[str, int], ...]
    """(axis name, groups per step)."""


@dataclass(frozen=True)
class OrderTie:
    """Order axes that must keep the same leading orders: l = 0 … lmax, the same lmax in all."""

    label: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Legal:
    """What a target can express. Axes that are named nowhere are free."""

    target: str
    ties: tuple[Tie, ...] = ()
    orders: tuple[OrderTie, ...] = ()
    frozen: tuple[str, ...] = ()
    """Axes that the target cannot shrink."""


class Family(Protocol):
    """One family of models. Implementations live in a subpackage and import its library lazily."""

    name: str

    def claims(self, name_or_path: str) -> bool:
        """Whether this family can load the name or file (looks at the file, loads nothing)."""
        ...

    def load(self, name_or_path: str, trust: bool) -> Loaded: ...

    def core(self, loaded: Loaded) -> nn.Module:
        """Tensors in, atomic energies [N] in eV out.

        forward(edge_vectors [E,3] Å, species [N], edge_index [2,E], head [N]).
        """
        ...

    def replacements(self) -> Sequence[Replacement]: ...

    def labels(self, graph: EquivariantGraph) -> Mapping[str, str]:
        """Layer label → node name."""
        ...

    def layers(self, graph: EquivariantGraph) -> Sequence[Layer]:
        """The message-passing layers, with the numbers that their labels have."""
        ...

    def renumbered(self, graph: EquivariantGraph, dropped: Sequence[int]) -> EquivariantGraph:
        """The graph without layers as a smaller model of the family; with ``source`` None where the
        family has no such model.
        """
        ...

    def legal(self, graph: EquivariantGraph) -> Legal:
        """The constraints of the config-native target."""
        ...

    def counts_for(self, graph: EquivariantGraph, irreps: str) -> Mapping[str, int]:
        """Groups to keep per axis for an explicit target structure (``--to``)."""
        ...

    def export_native(self, graph: EquivariantGraph, path: Path) -> None:
        """Config-native: the family's class rebuilt from its config, strict load.

        Raises:
            LegalityError: the config cannot say this structure; names what.
        """
        ...

    def export_surgery(self, graph: EquivariantGraph, path: Path) -> None:
        """The family's class with replaced submodules."""
        ...

    def fresh(self, graph: EquivariantGraph, seed: int) -> Loaded:
        """The family's class of the graph's structure, with new random weights.

        Raises:
            LegalityError: the config cannot say this structure; names what.
        """
        ...

    def reload_script(self) -> str:
        """Python source run in a fresh process without irprune.

        argv: model file, structures file, dtype, output npz; writes energy [S], forces
        (concatenated), stress [S,6].
        """
        ...
