"""The backend that hands convolutions to cuEquivariance."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from irprune.backends import Backend, Decline, Kernel, Spec
from irprune.edges import unpack
from irprune.errors import IrpruneError
from irprune.specs.path import PathSpec

DTYPES = (torch.float32, torch.float64)
MINIMUM = (0, 6)
"""The first version that names its methods."""


class CuEquivariance(Backend):
    """Serves convolutions: on CUDA by the method ``uniform_1d``, on the CPU by ``naive``.

    On the CPU it is slower than the other backends and ranks below all of them: it is there to be
    compared with.
    """

    name: ClassVar[str] = "cuequivariance"
    rank: ClassVar[int] = 5

    def rank_on(self, device: torch.device) -> int:
        return self.rank if device.type == "cuda" else -2

    def supports(self, spec: Spec, device: torch.device, dtype: torch.dtype) -> Decline | None:
        if not isinstance(spec, PathSpec):
            return Decline(
                self.name, f"serves convolutions, not a {type(spec).__name__}", meant=False
            )
        reason = _reason(spec, device, dtype) or missing(device.type)
        return None if reason is None else Decline(self.name, reason)

    def kernel(self, spec: Spec) -> Kernel:
        assert isinstance(spec, PathSpec)
        products: dict[torch.device, Product] = {}

        def convolution(x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
            if x.device not in products:
                method = "uniform_1d" if x.device.type == "cuda" else "naive"
                products[x.device] = Product(spec, method).to(x.device)
            made: Tensor = products[x.device](x, y, w, edges)
            return made

        return convolution


def _reason(spec: PathSpec, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type not in ("cpu", "cuda"):
        return f"runs on CUDA and the CPU, the tensors are on {device.type}"
    if not spec.paths:
        return "cannot describe a convolution without paths"
    return None if dtype in DTYPES else f"float32 and float64 only, got {dtype}"


@functools.cache
def missing(device: str) -> str | None:
    """What is not installed for a kind of device, or does not work; None if all is there."""
    if importlib.util.find_spec("cuequivariance_torch") is None:
        return "the package cuequivariance-torch is not installed (pip install 'irprune[cueq]')"
    from importlib.metadata import version

    found = version("cuequivariance-torch")
    if tuple(int(part) for part in found.split(".")[:2]) < MINIMUM:
        return (
            f"works with cuequivariance-torch {'.'.join(map(str, MINIMUM))} or later, found {found}"
        )
    if device == "cuda" and importlib.util.find_spec("cuequivariance_ops_torch") is None:
        major = (torch.version.cuda or "12").partition(".")[0]
        return (
            f"its CUDA kernels are not installed (pip install cuequivariance-ops-torch-cu{major})"
        )
    if device == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    try:
        import cuequivariance_torch  # noqa: F401
    except Exception as error:
        return f"cuequivariance-torch {found} cannot be imported: {type(error).__name__}: {error}"
    return None


class Product(torch.nn.Module):
    """A convolution by one method of ``cuequivariance_torch``, in the layout of its spec.

    Rows that the method takes as they are are not gathered.

    Raises:
        IrpruneError: the package would run another method than the one that was asked for.
    """

    weights: Tensor
    features: Tensor
    harmonics: Tensor
    result: Tensor

    def __init__(self, spec: PathSpec, method: str, width: int | None = None) -> None:
        from cuequivariance_torch import SegmentedPolynomial

        from irprune.kernels.cueq.descriptor import describe, legal_width

        super().__init__()
        if width is None and method == "uniform_1d":
            width = legal_width(spec)
        described = describe(spec, width)
        self.size = spec.dims[2]
        whole = {"weights": spec.n_weights, "features": spec.dims[0], "harmonics": spec.dims[1],
                 "result": spec.dims[2]}  # fmt: skip
        self.as_it_is = {
            name: np.array_equal(getattr(described, name), np.arange(size))
            for name, size in whole.items()
        }
        for name in ("weights", "features", "harmonics", "result"):
            columns = torch.from_numpy(getattr(described, name))
            self.register_buffer(name, columns, persistent=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it falls back, which is refused below
            self.product: Any = SegmentedPolynomial(described.polynomial, method=method)
        if self.product.method != method:
            raise IrpruneError(
                f"cuequivariance_torch runs {self.product.method!r} in the place of {method!r};"
                " reinstall cuequivariance-ops-torch"
            )

    def forward(self, x: Tensor, y: Tensor, w: Tensor, edges: Tensor) -> Tensor:
        """x [N, in1], y [E, in2], w [rows, weights], packed edges → [N, out]."""
        n = x.shape[0]
        lists = unpack(edges, n)
        given = {"weights": w, "features": x, "harmonics": y}
        operands = [
            t if self.as_it_is[name] else t.index_select(1, getattr(self, name))
            for name, t in given.items()
        ]
        (made,) = self.product(
            operands,
            {0: lists.row, 1: lists.sender},
            {0: x.new_empty(n, 1)},
            {0: lists.receiver},
        )
        if self.as_it_is["result"]:
            whole: Tensor = made
            return whole
        full = self.result.shape[0] == self.size
        out = x.new_empty(n, self.size) if full else x.new_zeros(n, self.size)
        return out.index_copy(1, self.result, made)
