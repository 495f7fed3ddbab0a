"""Neighbour lists of molecules, slabs and crystals (cell-list search by matscipy)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list as _search
from numpy.typing import NDArray

from irprune.errors import DataError, UsageError

Floats = NDArray[np.float64]
_FLAT = 1e-6
"""Volume of the unit-length periodic vectors below which they count as dependent."""


def neighbour_list(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.int64], Floats]:
    """All pairs closer than ``cutoff`` (Å), both directions, no atom with itself in the same cell.

    Returns:
        ``edge_index`` [2, E] and ``shifts`` [E, 3] (whole numbers of cell vectors, zero along
        directions that are not periodic), such that
        ``pos[edge_index[1]] - pos[edge_index[0]] + shifts @ cell`` is the vector from the first to
        the second atom, with length < cutoff. E = 0 is a valid result. Sorted by the first atom.

    Raises:
        DataError: positions that are not finite, or a periodic direction without a cell vector.
        UsageError: a cutoff that is not positive.
    """
    if not cutoff > 0:
        raise UsageError(f"cutoff must be a positive length in Å, got {cutoff}")
    positions = np.array(atoms.positions, dtype=np.float64)
    if not np.isfinite(positions).all():
        raise DataError(f"{atoms.get_chemical_formula()}: positions are not finite")
    if len(positions) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3))
    pbc = np.array(atoms.pbc, dtype=bool)
    search_cell, origin = _search_cell(positions, np.array(atoms.cell), pbc, cutoff)
    first, second, images, vectors = _search(
        "ijSD",
        pbc=pbc,
        cell=search_cell,
        positions=positions - origin,
        cutoff=float(cutoff),
        cell_origin=np.zeros(3),
    )
    keep = np.einsum("ij,ij->i", vectors, vectors) < cutoff**2
    keep &= (first != second) | images.any(axis=1)
    edge_index = np.stack((first, second)).astype(np.int64)[:, keep]
    return edge_index, images[keep].astype(np.float64)


def _search_cell(
    positions: Floats, cell: Floats, pbc: NDArray[np.bool_], cutoff: float
) -> tuple[Floats, Floats]:
    """A cell that holds all atoms, equal to ``cell`` along periodic directions.

    Along the others its vectors are orthogonal to the periodic ones and long enough for all atoms;
    since no images are taken there, only the bins of the search depend on them.
    """
    frame = unit_frame(cell, pbc)
    out = np.where(pbc[:, None], cell, frame)
    # Coordinates along the free directions are plain projections, as these are orthonormal.
    along = positions @ frame.T
    low, high = along.min(axis=0), along.max(axis=0)
    origin = np.zeros(3)
    for axis in np.flatnonzero(~pbc):
        out[axis] = frame[axis] * (high[axis] - low[axis] + 2 * cutoff)
        origin += frame[axis] * (low[axis] - cutoff)
    return out, origin


def unit_frame(cell: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Unit periodic vectors, completed by an orthonormal frame of what they do not span.

    Raises:
        DataError: a periodic direction without a cell vector, or vectors that are dependent.
    """
    frame = np.zeros((3, 3))
    lengths = np.linalg.norm(cell, axis=1)
    if not np.isfinite(cell).all() or (lengths[pbc] == 0).any():
        raise DataError(
            f"periodic boundary conditions {pbc.tolist()} need a finite, non-zero cell vector in"
            f" each periodic direction, got cell {cell.tolist()}; set the cell or pbc=False"
        )
    frame[pbc] = cell[pbc] / lengths[pbc, None]
    n = int(pbc.sum())
    _, sizes, rows = np.linalg.svd(frame[pbc]) if n else (None, np.zeros(0), np.eye(3))
    if n and float(np.prod(sizes)) < _FLAT:
        raise DataError(
            f"the periodic cell vectors {cell[pbc].tolist()} are linearly dependent;"
            " correct the cell or set pbc=False in that direction"
        )
    frame[~pbc] = rows[n:]
    return frame


def edge_vectors(atoms: Atoms, edge_index: NDArray[Any], shifts: Floats) -> Floats:
    """Vectors [E, 3] in Å from the first to the second atom of each edge."""
    positions = atoms.positions
    vectors: Floats = (
        positions[edge_index[1]] - positions[edge_index[0]] + shifts @ np.array(atoms.cell)
    )
    return vectors
