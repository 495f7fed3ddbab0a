"""The one tolerance table of the project. Needs no torch.

A row is a check, a column the precision it runs in. ``float64/constants32`` is float64 arithmetic
on a model made in float32: its Clebsch-Gordan coefficients and normalization constants carry the
rounding of float32 (6e-8), so it is equivariant only up to that, however precise the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from irprune.errors import UsageError

PRECISIONS = ("float32", "float64", "float64/constants32")


def _row(float32: float, float64: float, constants32: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(PRECISIONS, (float32, float64, constants32), strict=True)))


TOLERANCES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        # Relative (energy_scale, force_scale of physical.py). The invariant of the project is
        # 1e-10 in float64. It does not depend on the constants: both models have the same ones.
        # A model in TorchScript may change by a rounding at its second call, when it is compiled
        # for its shapes: comparisons make one call before they measure.
        # float32: forces are sums of ~100 edge terms that nearly cancel; 1e-5 is usual, 1e-4 safe.
        "masked-sliced": _row(1e-4, 1e-10, 1e-10),
        # A graph in memory against what it claims to equal, both computed in float64; the column is
        # the precision that its weights are stored in. float32: every fold rounds once, 6e-8, and
        # large terms that cancel magnify it. float64: one decade for folds done one on another.
        "claim": _row(1e-4, 1e-9, 1e-9),
        # The same operations in the same order on the same numbers: not one bit may differ.
        "traced-original": _row(0.0, 0.0, 0.0),
        # What torch.compile made of a graph against the graph as it is, in the model's own dtype. The
        # same operations fused and in another order; as for masked-sliced.
        "compiled": _row(1e-4, 1e-10, 1e-10),
        # A file written and read again, perhaps run by other kernels of the same operations.
        "reload": _row(1e-5, 1e-9, 1e-9),
        # A model against another that claims to be equal (irprune verify --against): as for
        # masked-sliced, one decade for a family's own neighbour list and summation order.
        "agreement": _row(1e-4, 1e-9, 1e-9),
        # The same where one of the two is optimized. Constants of float32: its folds round to
        # float32, 2^-24 = 6e-8 per weight, however precise the arithmetic. Measured 3e-8 and 5e-8
        # (SevenNet-l3i5, SevenNet-0), and 4e-7 for a toy of few weights, whose roundings do not
        # average out; one decade above that. A wrong fold shows at 1e-3.
        "agreement-folded": _row(1e-4, 1e-9, 5e-6),
        # Share of the structures that nothing acts on, always computed in float64. Atoms may be out of
        # each other's reach in some; where that is so in most, a network was cut too far.
        "response": _row(0.5, 0.5, 0.5),
        # Relative. Measured: 1e-5, 1e-14 and 1e-9 (SevenNet-0, MACE-MP-0 small), with room for
        # models whose forces are larger sums; a broken block shows at 1e-3 and above.
        "rotation": _row(5e-4, 1e-9, 1e-6),
        # As rotation: x → −x is an orthogonal map too.
        "inversion": _row(5e-4, 1e-9, 1e-6),
        # Only the rounding of positions and the order of edges change, whatever the constants.
        "translation": _row(5e-4, 1e-9, 1e-9),
        "permutation": _row(5e-4, 1e-9, 1e-9),
        # Relative to the norm of all forces, always computed in float64. Central differences with
        # a step of 5e-4 Å and Richardson extrapolation: measured 1e-10 (SevenNet-0, MACE), from
        # rounding, 1e-16·E/h. 1e-5 leaves room for radial functions whose second derivative jumps
        # at the cutoff (an edge that crosses it costs 1e-6) and for large reference energies.
        "forces": _row(1e-5, 1e-5, 1e-5),
        # As forces, relative to the norm of the virial; measured 1e-10.
        "stress": _row(1e-5, 1e-5, 1e-5),
        # eV/atom over 50 steps of 0.5 fs from 300 K. Velocity Verlet oscillates by ~ (ω Δt)²/8 of
        # the energy swing: measured 3e-7 for crystals, below 1e-4 for C-H and O-H bonds; 5e-4
        # allows hot generated structures. float32: plus the rounding of the total energy.
        "nve": _row(1e-3, 5e-4, 5e-4),
    }
)


def precision(dtype: str, constants: str | None = None) -> str:
    """Column of the table for arithmetic in ``dtype`` on a model made in ``constants``.

    Raises:
        UsageError: a dtype other than ``float32`` and ``float64``.
    """
    for given in (dtype, constants):
        if given not in ("float32", "float64", None):
            raise UsageError(f"no tolerances for dtype {given!r}; use float32 or float64")
    if dtype == "float64" and constants == "float32":
        return "float64/constants32"
    return dtype


def tolerance(check: str, dtype: str, constants: str | None = None) -> float:
    """Largest value that ``check`` may measure.

    Raises:
        UsageError: an unknown check or dtype; names the known ones.
    """
    if check not in TOLERANCES:
        raise UsageError(f"no tolerance for {check!r}; known are {', '.join(TOLERANCES)}")
    return TOLERANCES[check][precision(dtype, constants)]
