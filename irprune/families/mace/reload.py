"""The script that loads an exported MACE file where users load it: in mace's calculator."""

SCRIPT = '''\
"""Energies, forces and stress of a MACE model, by mace's own calculator.

usage: python script.py MODEL STRUCTURES.extxyz DTYPE OUT.npz [HEAD]
"""
import sys
import warnings

warnings.simplefilter("ignore")

import numpy as np
from ase.io import read
from mace.calculators import MACECalculator

model, structures, dtype, out = sys.argv[1:5]
options = {"head": sys.argv[5]} if len(sys.argv) > 5 else {}
calculator = MACECalculator(model_paths=model, device="cpu", default_dtype=dtype, **options)
energy, forces, stress = [], [], []
for atoms in read(structures, ":"):
    calculator.calculate(atoms)
    energy.append(calculator.results["energy"])
    forces.append(calculator.results["forces"])
    stress.append(calculator.results["stress"])
np.savez(out, energy=np.array(energy), forces=np.concatenate(forces), stress=np.array(stress))
'''
"""Writes energy [S] eV, forces [ΣN, 3] eV/Å and stress [S, 6] eV/Å³ (ASE's sign and Voigt order)."""
