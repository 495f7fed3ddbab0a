"""Every node of a graph timed by itself, on the values that it has in a real call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from irprune.cost import node_costs
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import op_of_node
from irprune.profile.peaks import Peaks, seconds

if TYPE_CHECKING:
    from irprune.data.batch import Batch
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class NodeTime:
    """One node, alone: what goes in lies in memory, what comes out is thrown away."""

    node: str
    op: str
    forward: float
    """Seconds."""
    backward: float
    """Seconds, for the gradients that a call for forces needs; 0 where it needs none."""
    flops: float
    """Forward, by the cost model, with the rows that the structure has."""
    bytes: float
    """Of operands, parameters and result, each once."""
    least: float
    """Seconds below which the forward pass cannot come on this machine."""

    @property
    def seconds(self) -> float:
        return self.forward + self.backward

    @property
    def share(self) -> float:
        """How near the forward pass is to the limit, in [0, 1] as a rule."""
        return self.least / self.forward if self.forward > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"share_of_peak": round(self.share, 4)}


class _Record(fx.Interpreter):
    """Keeps what every node is called with, and whether it leads to a gradient."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call"):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.calls[n.name] = (self._function(n), args, kwargs, value)
        return value

    def _function(self, n: fx.Node) -> Callable[..., Any]:
        if n.op == "call_module":
            module: Callable[..., Any] = self.fetch_attr(str(n.target))
            return module
        if n.op == "call_method":
            name = str(n.target)
            return lambda first, *rest, **more: getattr(first, name)(*rest, **more)
        assert callable(n.target)
        return n.target


def node_times(
    graph: EquivariantGraph,
    batch: Batch,
    peaks: Peaks,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[NodeTime]:
    """Times of all nodes, the slowest first.

    Args:
        graph: an interatomic potential.
        batch: the structures to run on, in the dtype of the graph.
        peaks: of this machine.
        repeats: medians are over so many calls.
        progress: called with (nodes done, nodes in all).
    """
    record = _Record(graph.module())
    vectors = batch.edge_vectors().detach().requires_grad_(True)
    record.run(vectors, batch.species, batch.edge_index, batch.head)
    costs, out = node_costs(graph), []
    for i, (name, call) in enumerate(record.calls.items()):
        site = graph.sites[name]
        op = op_of_node(site.node, site.module)
        forward, backward = _time(*call, repeats)
        flops = costs[name].flops * _rows(site.out, costs[name].space, batch)
        size = _bytes(call[1:]) + sum(
            p.numel() * p.element_size() for p in (site.module.parameters() if site.module else ())
        )
        kind = op.name if op else "barrier"
        least = peaks.least(flops, size)
        out.append(NodeTime(name, kind, forward, backward, flops, size, least))
        if progress is not None:
            progress(i + 1, len(record.calls))
    return sorted(out, key=lambda t: -t.seconds)


def _rows(t: Any, space: Space | None, batch: Batch) -> float:
    found = space or (t.space if isinstance(t, IrrepsType) else Space.GRAPH)
    edges, atoms = float(batch.n_edges), float(batch.species.shape[0])
    return {Space.EDGE: edges, Space.PAIR: edges / 2, Space.NODE: atoms}.get(found, 1.0)


def _bytes(value: Any) -> float:
    if isinstance(value, Tensor):
        return float(value.numel() * value.element_size())
    if isinstance(value, (tuple, list)):
        return sum(_bytes(v) for v in value)
    return sum(_bytes(v) for v in value.values()) if isinstance(value, dict) else 0.0


def _time(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    value: Any,
    repeats: int,
) -> tuple[float, float]:
    leaves: list[Tensor] = []

    def detach(x: Any) -> Any:
        if isinstance(x, Tensor):
            made = x.detach()
            if x.requires_grad:
                leaves.append(made.requires_grad_(True))
            return made
        if isinstance(x, (tuple, list)):
            return type(x)(detach(v) for v in x)
        return {k: detach(v) for k, v in x.items()} if isinstance(x, dict) else x

    given, named = detach(args), detach(kwargs)
    results = [v for v in (value if isinstance(value, tuple) else (value,))
               if isinstance(v, Tensor) and v.requires_grad]  # fmt: skip
    forward = seconds(lambda: function(*given, **named), repeats)
    if not results or not leaves:
        return forward, 0.0
    ups = [torch.randn_like(v) for v in results]
    times = []
    for _ in range(repeats + 1):
        out = function(*given, **named)
        made = [v for v in (out if isinstance(out, tuple) else (out,))
                if isinstance(v, Tensor) and v.requires_grad]  # fmt: skip
        start = time.perf_counter()
        torch.autograd.grad(made, leaves, ups, allow_unused=True)
        times.append(time.perf_counter() - start)
    return forward, statistics.median(times[1:])
