"""The script that loads an exported SevenNet file where users load it: in sevenn's calculator."""

SCRIPT = '''\
"""Energies, forces and stress of a SevenNet checkpoint, by sevenn's own calculator.

usage: python script.py MODEL STRUCTURES.extxyz float32 OUT.npz
"""
import sys
import warnings

warnings.simplefilter("ignore")
model, structures, dtype, out = sys.argv[1:5]
if dtype != "float32":
    sys.exit(f"SevenNetCalculator computes in float32, not in {dtype}")

import numpy as np
import torch

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 needs it to import on torch >= 2.6

from ase.io import read
from sevenn.calculator import SevenNetCalculator

calculator = SevenNetCalculator(model, device="cpu")
energy, forces, stress = [], [], []
for atoms in read(structures, ":"):
    calculator.calculate(atoms)
    energy.append(calculator.results["energy"])
    forces.append(calculator.results["forces"])
    stress.append(calculator.results["stress"])
np.savez(out, energy=np.array(energy), forces=np.concatenate(forces), stress=np.array(stress))
'''
"""Writes energy [S] eV, forces [ΣN, 3] eV/Å, stress [S, 6] eV/Å³ (ASE's sign and Voigt order)."""
