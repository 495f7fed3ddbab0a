"""Both ways on a GPU: the last radial layer by torch before the kernel, or in it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.device import in_turn
from benchmarks.gpu.kernels import DEGREE
from benchmarks.gpu.radial.compiled import HIDDEN, PRECISIONS, chosen
from benchmarks.gpu.radial.kernel import Tile, fused
from irprune.edges import pack
from irprune.irreps import Layout
from irprune.kernels.triton import launch
from irprune.kernels.triton.config import Config, shallow
from irprune.kernels.triton.convolution import Group
from irprune.kernels.tuner.stage2 import EDGES, Call, Timer, problem
from irprune.specs.path import PathSpec

Kernels = Sequence[tuple[Group, Tile]]
TOLERANCES = {"ieee": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3}
"""Largest difference from float64, of the largest number."""
CHECKED = 500
ROUNDS = 9


def timed(
    spec: PathSpec,
    found: Mapping[str, Any],
    device: torch.device,
    timer: Timer,
    count: int = EDGES,
) -> dict[str, Any]:
    """Checks the layouts that ``compare`` found best, then times them: nanoseconds per edge, medians.

    The separate way takes turns in every width of its programs, with a row of weights per edge and, as
    ``share-pairs`` leaves a model, per pair of edges. Its product of matrices is torch's, in float32
    and in tf32.
    """
    spec = spec.in_layout(Layout.IR_MUL)
    ways = {p: chosen(found, spec, p) for p in PRECISIONS}
    errors = {p: error(spec, way, device, CHECKED) for p, way in ways.items() if way}
    wrong = {p: e for p, e in errors.items() if not e <= TOLERANCES[p]}
    if wrong:
        return {"wrong": wrong}
    x, y, hidden, matrix, edges = operands(spec, device, count)
    half = hidden[: -(-len(hidden) // 2)]
    paired = _paired(edges, x.shape[0], len(y))

    def separate(given: Tensor, lists: Tensor, tf32: bool, config: Config) -> Call:
        def call() -> Tensor:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            rows = given @ matrix
            torch.backends.cuda.matmul.allow_tf32 = False
            return launch.convolution(x, y, rows, lists, spec, config)

        return call

    def together(kernels: Kernels) -> Call:
        return lambda: fused(x, y, hidden, matrix, edges, spec, kernels)

    calls: dict[str, Call] = {}
    for config in (c for c in shallow(spec) if c.variant == "csr" and c.warps == 1):
        for precision, tf32 in (("float32", False), ("tf32", True)):
            name = f"separate {precision}, block={config.block}"
            calls[name] = separate(hidden, edges, tf32, config)
            calls[f"{name}, pairs"] = separate(half, paired, tf32, config)
    calls |= {f"fused {p}": together(way) for p, way in ways.items() if way}
    times = in_turn(calls, timer, ROUNDS)
    return {
        "errors": errors,
        "edges": len(y),
        "ns_per_edge": {n: statistics.median(t) / len(y) * 1e9 for n, t in times.items()},
    }


def operands(
    spec: PathSpec, device: torch.device, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Features, harmonics, what goes into the last layer, its weights, edges."""
    given = problem(spec, torch.float32, device, DEGREE, count)
    x, y, rows = (t.detach() for t in given.operands)
    g = torch.Generator().manual_seed(1)
    hidden = torch.randn(len(rows), HIDDEN, generator=g).to(device)
    matrix = torch.randn(HIDDEN, spec.n_weights, generator=g).to(device) / HIDDEN**0.5
    return x, y, hidden, matrix, given.index


def error(spec: PathSpec, kernels: Kernels, device: torch.device, count: int = CHECKED) -> float:
    """Largest difference of the fused kernels from the reference in float64, of the largest number."""
    from irprune.backends import convolve

    spec = spec.in_layout(Layout.IR_MUL)
    x, y, hidden, matrix, edges = operands(spec, device, count)
    made = fused(x, y, hidden, matrix, edges, spec, kernels)
    exact = convolve(spec, x.double(), y.double(), hidden.double() @ matrix.double(), edges)
    return float((made.double() - exact).abs().max() / exact.abs().max())


def _paired(edges: Tensor, nodes: int, count: int) -> Tensor:
    """The same edges, two to a row of weights; the second comes when the first has left the cache."""
    from irprune.edges import unpack

    lists = unpack(edges, nodes)
    rows = torch.arange(count, device=edges.device) % -(-count // 2)
    return pack(lists.sender, lists.receiver, nodes, rows)
