"""The others, as stock models run them.

In such a model every edge has weights of its own, in the order of the edges. The backends of irprune
look weights up by row, because edges of a pair may share one: that costs the others a copy of all
weights, or a sum over rows in the gradient, which is not their work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.shapes import Layer, product_of
from irprune.edges import unpack
from irprune.specs.path import PathSpec

Kernel = Callable[..., Tensor]


def e3nn_kernel(layer: Layer, keep: float, shape: str, like: Tensor) -> Kernel:
    """e3nn's own module between a gather and a scatter."""
    product = product_of(layer, keep, shape).to(like.device, like.dtype)

    def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        lists = unpack(edges, x.shape[0])
        messages = product(x[lists.sender], y, w)
        return x.new_zeros(x.shape[0], messages.shape[1]).index_add(0, lists.receiver, messages)

    return convolution


def cueq_kernel(spec: PathSpec, like: Tensor) -> Kernel:
    """cuEquivariance with the weights of each edge read in place."""
    from irprune.kernels.cueq.backend import Product

    product = Product(spec, "uniform_1d" if like.device.type == "cuda" else "naive")
    product.product = WithoutRows(product.product)
    return product.to(like.device)


class WithoutRows(torch.nn.Module):
    """A product that is not told where the weights, its first operand, are."""

    def __init__(self, product: Any) -> None:
        super().__init__()
        self.product = product

    def forward(
        self, operands: Sequence[Tensor], indices: Mapping[int, Tensor], *rest: object
    ) -> Any:
        return self.product(operands, {k: i for k, i in indices.items() if k != 0}, *rest)
