"""Reading structures and their labels, and checking that a model can use them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.formats import string2index
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from irprune.atomistic import Atomistic
from irprune.data.choice import number_in
from irprune.data.database import Rows, is_database
from irprune.data.neighbours import unit_frame
from irprune.errors import DataError

Floats = NDArray[np.float64]
Place = tuple[str, Mapping[str, Any]]
"""Where labels are: a name, and what is there by key."""

LABELS = ("energy", "forces", "stress")
_OPENERS: Mapping[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_PREFIXES = ("REF_", "ref_", "dft_", "DFT_")
_ENERGY = tuple(f"{p}energy" for p in _PREFIXES)
_FORCES = tuple(f"{p}{k}" for p in _PREFIXES for k in ("forces", "force"))
_STRESS = tuple(f"{p}stress" for p in _PREFIXES)
_VIRIALS = ("virial", "virials")
_REFERENCE_VIRIALS = tuple(f"{p}{k}" for p in _PREFIXES for k in _VIRIALS)
REFERENCE_STRESSES = (*_STRESS, *_REFERENCE_VIRIALS)
"""Keys of info that name the reference for the stress, in the order in which they are looked for."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Reference values of one structure; ``None`` where the file has none."""

    energy: float | None
    """eV, of the whole structure."""
    forces: Floats | None
    """[N, 3] eV/Å."""
    stress: Floats | None
    """[3, 3] eV/Å³, ASE's sign (positive under tension)."""
    source: Mapping[str, str]
    """Where each label was found, for example ``{"energy": "info REF_energy"}``."""

    def has(self, name: str) -> bool:
        """Whether ``energy``, ``forces`` or ``stress`` is there."""
        return getattr(self, name) is not None


def read_frames(path: str | Path, index: str | int = ":") -> Sequence[Atoms]:
    """All structures of a file that ASE can read, compressed or not.

    Databases (``.db``, ``.aselmdb``, or a folder of these) are read structure by structure, when
    one is wanted; the structures of other files are in memory.

    Args:
        path: the file; ASE guesses its format from name and content.
        index: ASE's choice of frames: a number, or a slice such as ``":100"`` or ``"::10"``.

    Raises:
        DataError: the file is missing, cannot be read, or has no such frames.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"no such data file: {path}; check the path")
    if is_database(path):
        return _rows(path, index)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file of structures, for example extended XYZ")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with at least one structure")
    try:
        with _unpacked(path) as plain:
            found = read(plain, index=index)
    except Exception as error:  # ASE's readers raise whatever their parsers raise
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(
            f"cannot read structures from {path} ({type(error).__name__}: {reason[0][:160]});"
            " give a file that ase.io.read understands, for example extended XYZ"
        ) from error
    frames = [found] if isinstance(found, Atoms) else list(found)
    if not frames:
        raise DataError(f"{path} has no structures at index {index!r}; choose other frames")
    return frames


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or what a compressed one holds.

    ASE goes back and forth in a file; in a compressed one every step back reads it from the start.
    """
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="irprune-") as folder:
        plain = Path(folder) / path.stem
        with opener(path) as packed, plain.open("wb") as out:
            shutil.copyfileobj(packed, out)
        yield plain


def _rows(path: Path, index: str | int) -> Sequence[Atoms]:
    chosen = string2index(index) if isinstance(index, str) else index
    rows = Rows(path)
    try:
        found = rows[chosen] if isinstance(chosen, slice) else [rows[chosen]]
    except IndexError:
        found = []
    if not found:
        raise DataError(f"{path} has no structures at index {index!r}; choose other frames")
    return found


def labels_of(atoms: Atoms) -> Labels:
    """Energy, forces and stress of a structure, from the first place that has them.

    Keys that name a reference (``REF_energy``, ``dft_forces``, ``REF_virial``, …) come first, then
    results of an attached calculator (where ASE puts ``energy``, ``forces``, ``stress`` of extended
    XYZ), then plain keys of ``info`` and ``arrays``. Stress may be Voigt [6] (xx yy zz yz xz xy), [9]
    or [3, 3]; a virial W = −V σ is converted.

    Raises:
        DataError: a label of another shape, or a virial of a structure without volume.
    """
    results = dict(getattr(atoms.calc, "results", None) or {})
    info, arrays = ("info", atoms.info), ("arrays", atoms.arrays)
    made = ("calculator", results)
    source: dict[str, str] = {}

    def first(name: str, places: Iterable[tuple[Place, str]]) -> tuple[str, Any]:
        for (where, store), key in places:
            if store.get(key) is not None:
                source[name] = where if where == "calculator" else f"{where} {key}"
                return key, store[key]
        return "", None

    _, energy = first("energy", (*((info, k) for k in _ENERGY), (made, "energy"), (info, "energy")))
    _, forces = first(
        "forces",
        (
            *((place, k) for place in (arrays, info) for k in _FORCES),  # databases have no arrays
            (made, "forces"),
            *((place, k) for place in (arrays, info) for k in ("forces", "force")),
        ),
    )
    key, stress = first(
        "stress",
        (
            *((info, k) for k in REFERENCE_STRESSES),
            *((made, "stress"), (info, "stress")),
            *((info, k) for k in _VIRIALS),
        ),
    )
    if forces is not None:
        forces = _numbers("forces", forces)
        if forces.shape != (len(atoms), 3):
            raise _shape_error("forces", forces, f"[{len(atoms)}, 3]")
    if stress is not None:
        is_virial = key in (*_VIRIALS, *_REFERENCE_VIRIALS)
        stress = _from_virial(atoms, key, stress) if is_virial else _tensor("stress", stress)
    if energy is not None:
        value = _numbers("energy", energy)
        if value.size != 1:
            raise _shape_error("energy", value, "one number")
        energy = float(value.reshape(-1)[0])
    return Labels(energy, forces, stress, source)


def check_frames(
    frames: Sequence[Atoms],
    atomistic: Atomistic | None = None,
    need_labels: Collection[str] = (),
) -> list[Labels]:
    """The labels of all frames, once every frame is found usable.

    Args:
        frames: the structures.
        atomistic: the model they are for; ``None`` does not check elements.
        need_labels: any of ``energy``, ``forces``, ``stress``: each must be on at least one frame.

    Raises:
        DataError: no frames, a frame without atoms, numbers that are not finite (with the number
            of the frame, counted from 0), a cell that does not fit the periodic directions, an
            element that the model does not know, or a needed label that no frame has.
    """
    if not frames:
        raise DataError("there are no structures; give a file with at least one")
    labels = []
    for number, atoms in enumerate(frames):
        where = frame_name(frames, number, atoms)
        if len(atoms) == 0:
            raise DataError(f"{where} has no atoms; remove it")
        with named_frame(frames, number):
            found = labels_of(atoms)
            if atomistic is not None:
                atomistic.species_of(atoms.numbers)
        for name, value in _values(atoms, found):
            if not np.isfinite(value).all():
                raise DataError(
                    f"{where} has a value in its {name} that is not finite; correct or remove it"
                )
        with named_frame(frames, number):
            unit_frame(np.array(atoms.cell), atoms.pbc)
        labels.append(found)
    for name in need_labels:
        if not any(found.has(name) for found in labels):
            raise DataError(
                f"none of the {len(frames)} structures has {name}; looked for calculator results"
                f" (extended XYZ: {name}=), {name} and {_PREFIXES[0]}{name} in info and arrays"
            )
    return labels


def frame_name(frames: Sequence[Atoms], i: int, atoms: Atoms) -> str:
    """``frame 7 (NaCl)`` for ``atoms``, structure ``i``: its number in what the user gave."""
    return f"frame {number_in(frames, i)} ({atoms.get_chemical_formula() or 'no atoms'})"


@contextmanager
def named_frame(frames: Sequence[Atoms], i: int) -> Iterator[None]:
    """Errors in the data say in which structure."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{frame_name(frames, i, frames[i])}: {error}") from error


def _values(atoms: Atoms, labels: Labels) -> Iterator[tuple[str, Any]]:
    yield "positions", atoms.positions
    yield "cell", np.array(atoms.cell)
    for name in LABELS:
        if labels.has(name):
            yield name, getattr(labels, name)


def _from_virial(atoms: Atoms, key: str, value: Any) -> Floats:
    """σ = −W / V, [3, 3]."""
    virial = _tensor(key, value)
    if atoms.cell.rank < 3:
        raise DataError(f"the label {key} needs a cell with a volume; remove it or set one")
    stress: Floats = -virial / atoms.cell.volume
    return stress


def _tensor(name: str, value: Any) -> Floats:
    array = _numbers(name, value)
    if array.size == 9:
        return array.reshape(3, 3)
    if array.shape == (6,):
        full: Floats = voigt_6_to_full_3x3_stress(array)
        return full
    raise _shape_error(name, array, "[6] (xx yy zz yz xz xy), [9] or [3, 3]")


def _numbers(name: str, value: Any) -> Floats:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the label {name} is not numeric: {str(value)[:60]!r}") from error


def _shape_error(name: str, value: Floats, expected: str) -> DataError:
    return DataError(f"the label {name} has shape {list(value.shape)}, expected {expected}")
