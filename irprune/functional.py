"""Plain tensor functions that a trace records whole, instead of the steps inside them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, fx

from irprune import edges

P = ParamSpec("P")
R = TypeVar("R")


def _first_proxy(value: Any) -> fx.Proxy | None:
    if isinstance(value, fx.Proxy):
        return value
    if isinstance(value, (tuple, list)):
        return next((p for v in value if (p := _first_proxy(v)) is not None), None)
    if isinstance(value, dict):
        return _first_proxy(tuple(value.values()))
    return None


def traced_whole(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator: called with proxies, the function becomes one graph node."""

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        proxy = _first_proxy((args, kwargs))
        if proxy is None:
            return fn(*args, **kwargs)
        made: Any = proxy.tracer.create_proxy("call_function", call, args, dict(kwargs))
        return made

    return call


@traced_whole
def scatter_sum(
    src: Tensor,
    index: Tensor,
    dim: int = 0,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """Sums the rows of ``src`` [E, …] that share an index into a tensor [dim_size, …].

    Args:
        src: rows to add up.
        index: [E], int64, the row of the result that each row of ``src`` goes to.
        dim: the axis of rows; 0, or -1 for a one-dimensional ``src``.
        out: must be None; accepted for the signature that model code uses.
        dim_size: rows of the result; by default the largest index plus one.
        reduce: must be ``"sum"``.
    """
    if out is not None or reduce != "sum" or dim % src.dim() != 0:
        raise ValueError(
            f"scatter_sum sums rows along axis 0 into a new tensor; got dim={dim},"
            f" reduce={reduce!r}, out={'given' if out is not None else None}"
        )
    if dim_size is None:
        dim_size = int(index.max()) + 1 if index.numel() else 0
    shape = (dim_size, *src.shape[1:])
    wide = index.reshape(-1, *([1] * (src.dim() - 1))).expand_as(src)
    return torch.zeros(shape, dtype=src.dtype, device=src.device).scatter_add_(0, wide, src)


@traced_whole
def message_gather(node_features: Tensor, edge_dst: Tensor, message: Tensor) -> Tensor:
    """Sums messages [E, …] into as many rows as ``node_features`` has, at ``edge_dst`` [E]."""
    wide = edge_dst.reshape(-1, *([1] * (message.dim() - 1))).expand_as(message)
    out = torch.zeros(
        (node_features.shape[0], *message.shape[1:]),
        dtype=node_features.dtype,
        device=node_features.device,
    )
    return out.scatter_reduce_(0, wide, message, reduce="sum")


@traced_whole
def take_head(x: Tensor, head: Tensor) -> Tensor:
    """Picks one column per row: [N, heads], [N] int64 → [N]."""
    return torch.gather(x, 1, head.unsqueeze(1)).squeeze(1)


@traced_whole
def mask_head(x: Tensor, head: Tensor, num_heads: int) -> Tensor:
    """Zeroes all but the columns of each row's head; ``x`` [N, heads·n] lies head by head."""
    n = x.shape[1] // num_heads
    own = torch.arange(num_heads, device=x.device).repeat_interleave(n)
    return x * (own.unsqueeze(0) == head.unsqueeze(1)).to(x.dtype)


class OneHot(torch.nn.Module):
    """[N] int64 → [N, n], one where the index is; in the dtype of the module."""

    one: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.register_buffer("one", torch.ones(()))

    def forward(self, index: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(index, self.n).to(self.one.dtype)


@traced_whole
def sum_rows(terms: list[Tensor]) -> Tensor:
    """Elementwise sum of tensors of one shape."""
    return torch.sum(torch.stack(terms, dim=0), dim=0)


@traced_whole
def edge_lists(
    sender: Tensor, receiver: Tensor, nodes: Tensor, row: Tensor | None = None
) -> Tensor:
    """Edges sorted by receiver and by sender, packed (``irprune.edges``).

    Args:
        sender: [E], atom whose features an edge reads.
        receiver: [E], atom that an edge adds to.
        nodes: any tensor with one row per atom.
        row: [E], row of the weights of each edge; its own number by default.
    """
    return edges.pack(sender, receiver, nodes.shape[0], row)


@traced_whole
def edge_pairs(sender: Tensor, receiver: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Edges that stand for themselves and their reverse [P], and the pair of each edge [E]."""
    return edges.pairs(sender, receiver, vectors.detach())


@traced_whole
def edges_of_pairs(edge_index: Tensor, pairs: Tensor) -> Tensor:
    """[2, P]: the edges that stand for their pair."""
    return edge_index[:, pairs]


@traced_whole
def first_element(rows: Tensor) -> Tensor:
    """[N] int64 of zeros: every atom counts as the first element."""
    return torch.zeros(rows.shape[0], dtype=torch.int64, device=rows.device)
