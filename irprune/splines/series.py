"""Series: Taylor coefficients of a function at all points of an interval at once, as balls.

A network of one variable runs on them as it runs on tensors, and what comes out encloses the values of
all its derivatives on each interval: automatic differentiation in Taylor arithmetic (Griewank and
Walther, Evaluating Derivatives, chapter 13) with balls m ± ρ for numbers (Moore, Interval Analysis).
Rounding is not enclosed: numbers are float64, and the bounds are used far above 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from irprune.errors import LegalityError

F = TypeVar("F", bound=Callable[..., Any])


class Undecided(Exception):
    """A comparison that holds on a part of an interval only: the variable at its threshold."""

    def __init__(self, row: int, offset: float) -> None:
        super().__init__(f"row {row}, offset {offset}")
        self.row = row
        self.offset = offset
        """From the middle of the interval of that row."""


class Series:
    """Coefficients 0 to n of the expansions about all points of each interval.

    ``mid`` and ``rad`` are [n + 1, *shape]; the first axis of ``shape`` counts intervals. The
    expansion about the middle of interval i has exactly the coefficients mid[:, i]; for every point
    of the interval, coefficient k of the expansion about it lies in mid[k, i] ± rad[k, i].
    """

    def __init__(self, mid: Tensor, rad: Tensor, radius: Tensor) -> None:
        self.mid = mid
        self.rad = rad
        self.radius = radius
        """[intervals], half of their widths."""

    @classmethod
    def variable(cls, middle: Tensor, radius: Tensor, order: int) -> Series:
        """The variable itself, [K, 1], on the intervals ``middle`` ± ``radius``, both [K]."""
        mid = middle.new_zeros(order + 1, middle.shape[0], 1)
        rad = torch.zeros_like(mid)
        mid[0, :, 0], rad[0, :, 0] = middle, radius
        if order:
            mid[1] = 1.0
        return cls(mid, rad, radius)

    @property
    def order(self) -> int:
        return self.mid.shape[0] - 1

    @property
    def shape(self) -> torch.Size:
        return self.mid.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.mid.dtype

    @property
    def device(self) -> torch.device:
        return self.mid.device

    def dim(self) -> int:
        return len(self.shape)

    def largest(self, k: int) -> Tensor:
        """Bound on |k-th derivative| on each interval, of the shape of the value."""
        return (self.mid[k].abs() + self.rad[k]) * math.factorial(k)

    def seen(self, k: int) -> Tensor:
        """|k-th derivative| in the middle of each interval."""
        return self.mid[k].abs() * math.factorial(k)

    def term(self, k: int) -> tuple[Tensor, Tensor]:
        return self.mid[k], self.rad[k]

    def map(self, f: Callable[[Tensor], Tensor]) -> Series:
        """The same linear rearrangement of every coefficient."""
        mid, rad = (torch.stack([f(c) for c in x]) for x in (self.mid, self.rad))
        return Series(mid, rad, self.radius)

    def tightened(self) -> Series:
        """The same with smaller radii: what Taylor's theorem says of coefficient k.

        c_k(x) = Σ_{k ≤ j < n} C(j, k) c_j(m) ξ^{j−k} + C(n, k) c_n(η) ξ^{n−k}, with ξ = x − m and η
        between them. Linear maps lose how their operands move together; this brings it back.
        """
        n = self.order
        rho = self.radius.reshape(-1, *([1] * (self.dim() - 1)))
        size = self.mid.abs()
        rad = self.rad.clone()
        for k in range(n):
            bound = math.comb(n, k) * (size[n] + self.rad[n]) * rho ** (n - k)
            for j in range(k + 1, n):
                bound = bound + math.comb(j, k) * size[j] * rho ** (j - k)
            rad[k] = torch.minimum(rad[k], bound)
        return Series(self.mid, rad, self.radius)

    # what torch and Python call

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        rule = RULES.get(name)
        if rule is None:
            raise LegalityError(f"no derivatives of torch's {name} are known")
        return rule(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        rule = RULES.get(name)
        if rule is None:
            raise LegalityError(f"no derivatives of torch's {name} are known")
        return lambda *args, **kwargs: rule(self, *args, **kwargs)

    def __add__(self, other: Any) -> Any:
        return RULES["add"](self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return RULES["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return RULES["rsub"](self, other)

    def __neg__(self) -> Any:
        return RULES["neg"](self)

    def __mul__(self, other: Any) -> Any:
        return RULES["mul"](self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return RULES["div"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return RULES["div"](other, self)

    def __pow__(self, exponent: Any) -> Any:
        return RULES["pow"](self, exponent)

    def __matmul__(self, matrix: Any) -> Any:
        return RULES["mm"](self, matrix)

    def __getitem__(self, key: Any) -> Any:
        return RULES["__getitem__"](self, key)

    def __lt__(self, other: Any) -> Any:
        return RULES["lt"](self, other)

    __le__ = __lt__

    def __gt__(self, other: Any) -> Any:
        return ~RULES["lt"](self, other)

    __ge__ = __gt__


RULES: dict[str, Callable[..., Any]] = {}
"""What is known of torch, by the name of the function or method; ``rules`` fills it."""


def rule(*names: str) -> Callable[[F], F]:
    """Decorator: how torch's functions of these names act on a Series."""

    def register(f: F) -> F:
        RULES.update(dict.fromkeys(names, f))
        return f

    return register
