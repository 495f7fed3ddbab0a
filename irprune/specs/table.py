"""TableSpec: rows of numbers that depend on one distance, as piecewise polynomials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irprune.errors import UsageError
from irprune.shapes import values_matter
from irprune.specs.keyed import Keyed
from irprune.waiting import would_wait

if TYPE_CHECKING:
    from torch import Tensor

Piece = tuple[float, float, int]
"""(start, stop, intervals): intervals of one width, Å."""
BELOW, BEYOND = 1e-6, 1e-5
"""How far outside of the range, relative to its ends, a distance may lie by rounding."""


@dataclass(frozen=True)
class TableSpec(Keyed):
    """out[w] = Σ over k of c[w, k] t^k, with the coefficients of the interval that r lies in.

    t in [0, 1] is the place of r within its interval. Values: r [rows] Å, table [tables, intervals,
    degree + 1, width], which of the tables [rows], result [rows, width].
    """

    width: int
    degree: int
    pieces: tuple[Piece, ...]
    tables: int = 1

    __hash__ = Keyed.__hash__

    @property
    def start(self) -> float:
        return self.pieces[0][0]

    @property
    def stop(self) -> float:
        return self.pieces[-1][1]

    @property
    def intervals(self) -> int:
        return sum(p[2] for p in self.pieces)

    def flops(self) -> float:
        """Multiply-adds times two per row."""
        return 2.0 * self.width * self.degree

    def check_range(self, r: Tensor) -> None:
        """
        Raises:
            UsageError: a distance that the table does not hold. On a GPU that is not looked for.
        """
        if not r.numel() or not values_matter() or would_wait(r):
            return
        low, high = float(r.detach().min()), float(r.detach().max())
        if not low >= self.start * (1 - BELOW) or not high <= self.stop * (1 + BEYOND):
            near = low < self.start * (1 - BELOW)
            advice = ", or with a smaller `shortest`" if near else ""
            raise UsageError(
                f"a distance of {low if near else high:g} Å is outside of the tabulated range,"
                f" {self.start:g} to {self.stop:g} Å; optimize without tabulate-radial{advice}"
            )

    def places(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Interval of each distance, the place t within it, and 1 / width of the interval."""
        import torch

        like = self._pieces(r)
        piece = torch.bucketize(r.detach().double(), like[:-1, 1].contiguous(), right=True)
        start, stop, count = like.to(r.dtype)[piece].unbind(1)
        inverse = count / (stop - start)
        u = (r - start) * inverse
        interval = u.detach().floor().clamp(min=0).minimum(count - 1)
        if would_wait(r):
            interval = interval.nan_to_num()  # no distance: the row is not a number either
        first = (like[:, 2].cumsum(0) - like[:, 2]).long()
        return first[piece] + interval.long(), u - interval, inverse

    def evaluate(self, r: Tensor, table: Tensor, which: Tensor | None = None) -> Tensor:
        """The oracle, by Horner's scheme. Differentiable any number of times.

        On a GPU a row of a distance outside of the range is not a number, and nor are its derivatives:
        an error would wait for the device.

        Raises:
            UsageError: a distance outside of the range.
        """
        self.check_range(r)
        interval, t, _ = self.places(r)
        rows = table[0 if which is None else which, interval]
        out = rows[:, self.degree]
        for k in reversed(range(self.degree)):
            out = out * t.unsqueeze(1) + rows[:, k]
        if would_wait(r) and values_matter():
            low, high = self.start * (1 - BELOW), self.stop * (1 + BEYOND)
            inside = ((r >= low) & (r <= high)).to(out.dtype)
            out = out * (inside / inside).unsqueeze(1)
        return out

    def _pieces(self, like: Tensor) -> Tensor:
        """[pieces, 3] float64 on the device of a tensor."""
        import torch

        if not would_wait(like):
            return torch.tensor(self.pieces, dtype=torch.float64, device=like.device)
        # a copy from the host would wait
        numbers = [like.new_full((), v, dtype=torch.float64) for p in self.pieces for v in p]
        return torch.stack(numbers).reshape(len(self.pieces), 3)

    def to_json(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "degree": self.degree,
            "pieces": [list(p) for p in self.pieces],
            "tables": self.tables,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableSpec:
        return cls(
            int(value["width"]),
            int(value["degree"]),
            tuple((float(a), float(b), int(n)) for a, b, n in value["pieces"]),
            int(value["tables"]),
        )

    def __str__(self) -> str:
        many = f", {self.tables} pairs of elements" if self.tables > 1 else ""
        return (
            f"{self.width} functions of the distance from {self.start:g} to {self.stop:g} Å,"
            f" {self.intervals} polynomials of degree {self.degree} each{many}, {self.key}"
        )
