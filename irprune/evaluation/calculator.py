"""An ASE calculator around a module that predicts atomic energies."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import nn

from irprune.atomistic import Atomistic
from irprune.evaluation.potential import Potential


class IrpruneCalculator(Calculator):
    """Energy (eV), atomic energies (eV), forces (eV/Å), stress (eV/Å³, ASE's sign and Voigt order).

    The model has no entropy term, so ``free_energy`` is ``energy``. The stress of a structure
    without a full cell is zero.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        module: nn.Module,
        atomistic: Atomistic,
        *,
        head: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        """The module is copied if ``dtype`` or ``device`` ask for a change, else used as it is.

        Raises:
            UsageError: no such head.
        """
        super().__init__(**kwargs)
        potential = Potential(module, atomistic, head)
        change = dtype not in (None, potential.dtype) or (
            device is not None and torch.device(device) != potential.device
        )
        self.potential = potential.to(dtype, device) if change else potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fills ``results`` with everything, whatever is asked: a program that asks for the energy
        asks for the forces next, and would have the energy computed twice.

        Raises:
            DataError: an element that the model does not know, or an unusable cell.
        """
        super().calculate(atoms, properties, system_changes)
        batch = self.potential.collate([self.atoms])
        out = self.potential.evaluate(batch, forces=True, stress=True)
        energy = float(out.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": out.energies.double().cpu().numpy(),
        }
        assert out.forces is not None and out.stress is not None
        self.results["forces"] = out.forces.double().cpu().numpy()
        stress = out.stress[0].double().cpu().numpy()
        self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
