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


def first_proxy(value: Any) -> fx.Proxy | None:
    """A traced value among arguments, if there is one."""
    if isinstance(value, fx.Proxy):
        return value
    if isinstance(value, (tuple, list)):
        return next((p for v in value if (p := first_proxy(v)) is not None), None)
    if isinstance(value, dict):
        return first_proxy(tuple(value.values()))
    return None


def traced_whole(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator: called with proxies, the function becomes one graph node."""

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        proxy = first_proxy((args, kwargs))
        if proxy is None:
            return fn(*args, **kwargs)
        made: Any = proxy.tracer.create_proxy("call_function", call, args, dict(kwargs))
        return made

    return call


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of an output: alone, or in tuples, lists and dicts, in order."""
    if torch.is_tensor(value):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_in(v)] if isinstance(value, (tuple, list)) else []


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


def _rows_of(index: Tensor, dim_size: int | None) -> int:
    if dim_size is not None:
        return dim_size
    return int(index.max()) + 1 if index.numel() else 0


def _wide(index: Tensor, src: Tensor) -> Tensor:
    """An index [E] repeated over the other axes of ``src`` [E, …]."""
    return index.reshape(-1, *([1] * (src.dim() - 1))).expand_as(src)


@traced_whole
def scatter_rows(
    src: Tensor, index: Tensor, dim: int = 0, dim_size: int | None = None, reduce: str = "sum"
) -> Tensor:
    """Rows of ``src`` [E, …] that share an index, reduced into [dim_size, …].

    Args:
        src: the rows.
        index: [E], int64, the row of the result that each goes to.
        dim: the axis of rows; must be the first.
        dim_size: rows of the result; by default the largest index plus one.
        reduce: ``sum`` (or ``add``), ``mean`` over the rows that are there, ``max`` or ``min``;
            rows of the result that none goes to are zero.
    """
    how = {"sum": "sum", "add": "sum", "mean": "mean", "max": "amax", "min": "amin"}.get(reduce)
    if how is None or dim % src.dim() != 0 or index.dim() != 1:
        raise ValueError(
            f"scatter reduces rows along axis 0 by sum, mean, max or min; got dim={dim},"
            f" reduce={reduce!r}, index with {index.dim()} axes"
        )
    out = src.new_zeros((_rows_of(index, dim_size), *src.shape[1:]))
    return out.scatter_reduce(0, _wide(index, src), src, how, include_self=False)


@traced_whole
def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """``torch_scatter.scatter``: :func:`scatter_rows` with its signature."""
    if out is not None:
        raise ValueError("scatter adds into a new tensor; got out=")
    return scatter_rows(src, index, dim, dim_size, reduce)


@traced_whole
def scatter_mean(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """``torch_scatter.scatter_mean``."""
    return scatter(src, index, dim, out, dim_size, "mean")


@traced_whole
def scatter_softmax(
    src: Tensor,
    index: Tensor,
    ptr: Tensor | None = None,
    num_nodes: int | None = None,
    dim: int = 0,
) -> Tensor:
    """Softmax of every column over the rows that share an index; ``torch_geometric.utils``."""
    if ptr is not None or dim % src.dim() != 0:
        raise ValueError(f"scatter_softmax runs over rows by index; got dim={dim}, ptr={ptr}")
    n = _rows_of(index, num_nodes)
    top = scatter_rows(src.detach(), index, 0, n, "max")
    weight = (src - top.index_select(0, index)).exp()
    total = scatter_rows(weight, index, 0, n, "sum") + 1e-16
    return weight / total.index_select(0, index)


def spherical_harmonics(
    l: Any,  # noqa: E741 - the name that e3nn's callers use
    x: Tensor,
    normalize: bool,
    normalization: str = "integral",
) -> Tensor:
    """``e3nn.o3.spherical_harmonics``; the orders are recorded as a list or as text."""
    if isinstance(l, int):
        l = [l]  # noqa: E741
    orders = list(l) if isinstance(l, range) or type(l) in (list, tuple) else str(l)
    return harmonics(x, orders, normalize, normalization)


@traced_whole
def harmonics(x: Tensor, orders: Any, normalize: bool, normalization: str) -> Tensor:
    """Vectors [E, 3] → spherical harmonics [E, Σ (2l+1)].

    Args:
        x: the vectors.
        orders: a list of l, or irreps such as ``0e+1o+2e``.
        normalize: take the direction only.
        normalization: ``component``, ``norm`` or ``integral``, as in e3nn.
    """
    from e3nn import o3

    return o3.SphericalHarmonics(orders, normalize, normalization)(x)


@traced_whole
def soft_one_hot_linspace(
    x: Tensor,
    start: float,
    end: float,
    number: int,
    basis: str | None = None,
    cutoff: bool | None = None,
) -> Tensor:
    """``e3nn.math.soft_one_hot_linspace``: distances [E] → a radial basis [E, number]."""
    from e3nn.math._soft_one_hot_linspace import soft_one_hot_linspace as made

    return made(x, start, end, number, basis, cutoff)


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
        # torch's one_hot looks at the values
        out = self.one.new_zeros(*index.shape, self.n)
        return out.scatter_(-1, index.unsqueeze(-1), 1)


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
def edge_pairs(
    sender: Tensor, receiver: Tensor, vectors: Tensor, complete: bool = False
) -> tuple[Tensor, Tensor]:
    """Edges that stand for themselves and their reverse [P], and the pair of each edge [E].

    ``complete``: every edge has its reverse, so that there are E / 2 pairs and none is counted.
    """
    return edges.pairs(sender, receiver, vectors.detach(), complete)


@traced_whole
def edges_of_pairs(edge_index: Tensor, pairs: Tensor) -> Tensor:
    """[2, P]: the edges that stand for their pair."""
    return edge_index[:, pairs]


@traced_whole
def first_element(rows: Tensor) -> Tensor:
    """[N] int64 of zeros: every atom counts as the first element."""
    return torch.zeros(rows.shape[0], dtype=torch.int64, device=rows.device)
