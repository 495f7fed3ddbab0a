"""Atomistic: what a graph has to know besides its tensors to run on atoms. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from ase.data import atomic_numbers as NUMBER_OF
from ase.data import chemical_symbols as SYMBOLS
from numpy.typing import NDArray

from irprune.errors import DataError, UsageError

_SHOWN = 12
_DTYPES = ("float32", "float64")


def symbol(z: int) -> str:
    """``8`` → ``O``; numbers outside the periodic table come back as ``Z=200``."""
    return SYMBOLS[z] if 0 < z < len(SYMBOLS) else f"Z={z}"


@dataclass(frozen=True)
class Atomistic:
    """The atomistic side of a model.

    A model is a module ``m(edge_vectors [E, 3] Å, species [N] int64, edge_index [2, E] int64,
    head [N] int64) -> atomic energies [N] eV``, with
    ``edge_vectors = pos[edge_index[1]] - pos[edge_index[0]] + shifts @ cell``, both directions of
    every pair, lengths below ``cutoff``, and an atom paired with itself only through a periodic
    image.
    """

    family: str
    """``mace``, ``sevennet`` or ``custom``."""
    cutoff: float
    """Å."""
    atomic_numbers: tuple[int, ...]
    """Atomic number Z of each species index."""
    heads: tuple[str, ...] = ("Default",)
    dtype: str = "float32"
    """Precision the checkpoint was made in; bounds how exact its constants are."""
    name: str = ""
    inversion: bool = True
    """Whether energies are invariant under x → −x. False for models that give odd quantities an
    even parity (SevenNet with ``is_parity: False``): these tell an object from its mirror image."""
    exact_edges: bool = True
    """Whether edge vectors are made in float64 and rounded once. False where the family's own
    calculator subtracts positions in the model's dtype (MACE), so that float32 gives its forces."""

    def __post_init__(self) -> None:
        if not self.cutoff > 0:
            raise UsageError(f"cutoff must be a positive length in Å, got {self.cutoff}")
        if not self.atomic_numbers or len(set(self.atomic_numbers)) != len(self.atomic_numbers):
            raise UsageError(
                f"atomic_numbers must be distinct and not empty, got {self.atomic_numbers}"
            )
        if not self.heads:
            raise UsageError("heads must name at least one head, got none")
        if self.dtype not in _DTYPES:
            raise UsageError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbol of each species index."""
        return tuple(symbol(z) for z in self.atomic_numbers)

    def species_of(self, numbers: Iterable[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Species index [N] of atomic numbers [N].

        Raises:
            DataError: an element that the model does not know; names it, and those it knows.
        """
        z = np.asarray(list(numbers), dtype=np.int64)
        table = np.full(max([*self.atomic_numbers, *z.tolist(), 0]) + 1, -1, dtype=np.int64)
        table[list(self.atomic_numbers)] = np.arange(len(self.atomic_numbers))
        species = np.where(z >= 0, table[np.maximum(z, 0)], -1)
        if (species < 0).any():
            unknown = ", ".join(symbol(int(i)) for i in np.unique(z[species < 0]))
            raise DataError(
                f"element {unknown} is not known to {self._label()}, which knows"
                f" {self.elements_text()}; remove these structures or use another model"
            )
        return species

    def head_index(self, head: str | None = None) -> int:
        """Index of a head; ``None`` means the only head, or the one named ``Default``.

        Raises:
            UsageError: no such head, or ``None`` where there are several and none is the default.
        """
        if head is None:
            if len(self.heads) == 1:
                return 0
            default = [i for i, h in enumerate(self.heads) if h.lower() == "default"]
            if default:
                return default[0]
            raise UsageError(
                f"{self._label()} has several heads ({', '.join(self.heads)}); choose one"
            )
        if head not in self.heads:
            raise UsageError(
                f"{self._label()} has no head {head!r}; its heads are {', '.join(self.heads)}"
            )
        return self.heads.index(head)

    def any_head(self) -> str:
        """The default head, or the first where there is none.

        For checks and scores, which look at one head of a model that has several.
        """
        default = [h for h in self.heads if h.lower() == "default"]
        return default[0] if default else self.heads[0]

    def elements_text(self) -> str:
        """Known elements, shortened: ``89 elements (H, He, Li, …, Pu)``."""
        known = [symbol(z) for z in sorted(self.atomic_numbers)]
        if len(known) <= _SHOWN:
            return ", ".join(known)
        return f"{len(known)} elements ({', '.join(known[:3])}, …, {known[-1]})"

    def _label(self) -> str:
        return self.name or f"this {self.family} model"

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``json.dumps`` takes; ``from_json`` reads them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Atomistic:
        """Inverse of ``to_json``.

        Raises:
            UsageError: a field is missing, unknown or of the wrong kind; names it.
        """
        known = {f.name for f in fields(cls)}
        unknown = set(value) - known
        missing = {"family", "cutoff", "atomic_numbers"} - set(value)
        if unknown or missing:
            raise UsageError(
                "cannot read the atomistic description:"
                f" unknown fields {sorted(unknown)}, missing fields {sorted(missing)}"
            )
        try:
            kept = dict(value)
            kept["family"] = str(value["family"])
            kept["cutoff"] = float(value["cutoff"])
            kept["atomic_numbers"] = tuple(int(z) for z in value["atomic_numbers"])
            kept["heads"] = tuple(str(h) for h in value.get("heads", ("Default",)))
            return cls(**kept)
        except (TypeError, ValueError) as error:
            raise UsageError(f"cannot read the atomistic description: {error}") from error


def numbers_of(elements: Iterable[str | int]) -> tuple[int, ...]:
    """Atomic numbers of symbols or numbers, in the given order.

    Raises:
        UsageError: a symbol that is not a chemical element.
    """
    out = []
    for element in elements:
        z = NUMBER_OF.get(element, 0) if isinstance(element, str) else int(element)
        if not 0 < z < len(SYMBOLS):
            raise UsageError(
                f"{element!r} is not a chemical element; give symbols such as H, O, Cu"
            )
        out.append(z)
    return tuple(out)
