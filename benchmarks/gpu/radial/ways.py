"""Two ways to one convolution: the last radial layer by torch before the kernel, or in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.kernels import DEGREE
from benchmarks.gpu.radial.compiled import HIDDEN
from benchmarks.gpu.radial.kernel import Tile, fused
from irprune.backends import convolve
from irprune.edges import pack, unpack
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import Config
from irprune.kernels.triton.convolution import Group
from irprune.kernels.tuner.stage2 import problem
from irprune.specs.path import PathSpec


@dataclass(frozen=True, eq=False)
class Operands:
    """Of both ways."""

    x: Tensor
    y: Tensor
    hidden: Tensor
    """What goes into the last radial layer, a row per edge."""
    matrix: Tensor
    edges: Tensor
    half: Tensor
    """A row per pair of edges."""
    pairs: Tensor
    """The same edges, two to a row."""


@dataclass(frozen=True)
class Separate:
    """The layer by torch, in float32 or tf32, then the kernel that reads its rows."""

    config: Config
    tf32: bool = False
    pairs: bool = False
    """Whether two edges share a row, as ``share-pairs`` leaves a model."""

    def __call__(self, spec: PathSpec, o: Operands) -> Tensor:
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        rows = (o.half if self.pairs else o.hidden) @ o.matrix
        torch.backends.cuda.matmul.allow_tf32 = False
        edges = o.pairs if self.pairs else o.edges
        return launch.convolution(o.x, o.y, rows, edges, spec, self.config)


@dataclass(frozen=True)
class Fused:
    """One kernel, or some, that make their weights."""

    kernels: Sequence[tuple[Group, Tile]]
    pairs = False

    def __call__(self, spec: PathSpec, o: Operands) -> Tensor:
        return fused(o.x, o.y, o.hidden, o.matrix, o.edges, spec, self.kernels)


Way = Separate | Fused


def operands(spec: PathSpec, device: torch.device, count: int) -> Operands:
    """Random numbers for so many edges."""
    given = problem(spec, torch.float32, device, DEGREE, count)
    x, y, rows = (t.detach() for t in given.operands)
    g = torch.Generator().manual_seed(1)
    hidden = torch.randn(len(rows), HIDDEN, generator=g).to(device)
    matrix = torch.randn(HIDDEN, spec.n_weights, generator=g).to(device) / HIDDEN**0.5
    lists, half = unpack(given.index, x.shape[0]), -(-len(rows) // 2)
    # the second edge of a pair comes when its row has left the cache
    row = torch.arange(len(rows), device=device) % half
    pairs = pack(lists.sender, lists.receiver, x.shape[0], row)
    return Operands(x, y, hidden, matrix, given.index, hidden[:half], pairs)


def error_of(spec: PathSpec, way: Way, o: Operands) -> float:
    """Largest difference of a way from the reference in float64, of the largest number."""
    made = way(spec, o)
    rows = (o.half if way.pairs else o.hidden).double() @ o.matrix.double()
    exact = convolve(spec, o.x.double(), o.y.double(), rows, o.pairs if way.pairs else o.edges)
    return float((made.double() - exact).abs().max() / exact.abs().max())
