"""EquivariantGraph: a typed, immutable model graph, and what passes have learned about it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from irprune.axes import find_axes
from irprune.blocks import Axis, BlockSpace
from irprune.cost import Stats, graph_stats
from irprune.errors import PipelineError
from irprune.infer import check_shapes, example_inputs, infer_sites
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Site

if TYPE_CHECKING:
    from irprune.atomistic import Atomistic
    from irprune.compiling.compiled import CompileOptions
    from irprune.kernelplan import KernelPlan
    from irprune.scores import Scores


@dataclass(frozen=True)
class Source:
    """Where a graph came from: what a family needs to export it again."""

    family: str
    module: nn.Module
    """The original, unmodified module."""
    config: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True, eq=False)
class EquivariantGraph:
    """A traced model: an fx graph whose values have irreps types.

    Passes never change a graph; they return another (:meth:`replace`). ``keep`` is the legal class
    mask that ``select`` chose and ``slice`` will apply; ``origin`` is the graph before slicing.
    """

    gm: fx.GraphModule
    inputs: Mapping[str, Any]
    atomistic: Atomistic | None = None
    source: Source | None = None
    facts: frozenset[str] = frozenset({"irreps"})
    scores: Scores | None = None
    keep: BoolMask | None = None
    """Kept classes of ``blocks``, [n_classes]; None while nothing is selected."""
    origin: EquivariantGraph | None = None
    edges_per_atom: float | None = None
    """Average number of neighbours, for costs per atom; ``cost.DEFAULT_EDGES_PER_ATOM`` if None."""
    history: tuple[str, ...] = ()
    """The passes that made the graph, as pipeline text."""
    claim: EquivariantGraph | None = None
    """The graph that this one claims to equal, with what was selected there masked; None where
    nothing is claimed: a graph as it was loaded, or one whose weights have been trained."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Layer label → node whose irreps stand for the layer."""
    compiled: CompileOptions | None = None
    """How potentials and calculators compile the graph; None where they run it as it is."""
    kernels: KernelPlan | None = None
    """What ``select-kernels`` chose for the nodes of ``gm``; another ``gm`` has none."""

    @classmethod
    def build(
        cls, gm: fx.GraphModule, inputs: Mapping[str, Any], **kwargs: Any
    ) -> EquivariantGraph:
        """Types a traced graph and checks the types against one run.

        Raises:
            IrrepsTypeError: values that do not fit; names the nodes.
        """
        graph = cls(gm, dict(inputs), **kwargs)
        check_shapes(gm, graph.sites, inputs)
        return graph

    @cached_property
    def sites(self) -> dict[str, Site]:
        return infer_sites(self.gm, self.inputs)

    @cached_property
    def blocks(self) -> BlockSpace:
        return BlockSpace.build(self.sites)

    @cached_property
    def _axes(self) -> tuple[Axis, ...]:
        return find_axes(self.blocks)

    def axes(self) -> tuple[Axis, ...]:
        """Everything that pruning can decide about, axis by axis."""
        return self._axes

    def replace(self, **changes: Any) -> EquivariantGraph:
        """A graph with other values. What was chosen for one ``gm`` does not go over to another."""
        if "gm" in changes:
            changes.setdefault("kernels", None)
        return replace(self, **changes)

    def type_of(self, node: str) -> Any:
        return self.sites[node].out

    def elements(self) -> BoolMask:
        """Kept elements; all of them while nothing is selected."""
        import numpy as np

        keep = np.ones(self.blocks.n_classes, bool) if self.keep is None else self.keep
        return self.blocks.elements(keep)

    def groups(self) -> str:
        """The coupled groups, printable."""
        from irprune.text import print_groups

        return print_groups(self)

    def text(self, *, costs: bool = False, groups: bool = False, tensors: bool = False) -> str:
        """The textual IR, which ``irprune.text.parse`` reads back.

        Args:
            costs: blocks, parameters and FLOPs beside every call.
            groups: the coupled groups axis by axis, with what is selected.
            tensors: path, dtype and shape of every parameter and buffer.
        """
        from irprune.text import listing_of

        return str(listing_of(self, costs=costs, groups=groups, tensors=tensors))

    def stats(self, edges_per_atom: float | None = None) -> Stats:
        """Parameters, FLOPs and blocks of the graph as it stands (selected masks not applied)."""
        return graph_stats(self, edges_per_atom=edges_per_atom or self.edges_per_atom)

    def irreps_per_layer(self) -> dict[str, str]:
        out = {}
        for label, node in self.labels.items():
            t = self.sites[node].out if node in self.sites else None
            if isinstance(t, IrrepsType):
                out[label] = t.irreps
        return out

    def module(self, dtype: torch.dtype | None = None) -> fx.GraphModule:
        """A copy of the model as an ``nn.Module`` with the graph's inputs, in graph order."""
        made = copy.deepcopy(self.gm)
        return made if dtype is None else made.to(dtype)

    def runnable(self, dtype: torch.dtype | None = None) -> nn.Module:
        """As ``module``, compiled where ``compiled`` says so (at the first call)."""
        from irprune.compiling.compiled import module_of

        return module_of(self.module(dtype), self.compiled)

    def masked_reference(self) -> nn.Module:
        """The original with the removed blocks multiplied by zero: a callable with the same inputs.

        Raises:
            PipelineError: no blocks have been selected.
        """
        from irprune.masked import MaskedModule

        base = self.origin if self.origin is not None else self
        if base.keep is None:
            raise PipelineError(
                "there is no masked reference: no blocks have been selected; run select first"
            )
        return MaskedModule(base, base.elements())

    def claimed(self) -> nn.Module:
        """What this graph claims to equal, in float64: a callable with the same inputs.

        Raises:
            PipelineError: the graph claims nothing.
        """
        if self.claim is None:
            raise PipelineError("the graph claims to equal no other: nothing exact was done to it")
        base = self.claim.replace(gm=self.claim.module(torch.float64), origin=None)
        return base.gm if base.keep is None else base.masked_reference()

    def example(self, seed: int = 0, dtype: torch.dtype = torch.float64, grow: int = 0) -> Any:
        """Random inputs of the declared types, as a tuple in graph order."""
        return tuple(example_inputs(self.inputs, seed, dtype, grow).values())

    def save(self, path: str) -> None:
        """Writes the graph file: the graph as JSON and its tensors, in safetensors, no code."""
        from irprune.graphfile import save

        save(self, path)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """What notebooks show: sizes, and the picture of the graph."""
        from irprune.picture.build import picture_of
        from irprune.picture.svg import picture_svg

        picture = picture_svg([picture_of(self)], self.source.path if self.source else "")
        return f'<div style="max-width:100%;overflow-x:auto">{picture}</div>'
