"""What a run costs, in multiply-adds ×2 of the cost model. Constants are the usual counting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CALL = 3.0
"""Energy and forces: a forward pass, and a backward pass of about two."""
STEP = 9.0
"""A training step on energies and forces: ``CALL``, and a backward pass through both."""


def training(flops_per_atom: float, atoms: float, steps: int) -> float:
    """FLOPs of ``steps`` steps on batches with ``atoms`` atoms."""
    return STEP * flops_per_atom * atoms * steps


def labelling(flops_per_atom: float, atoms: float) -> float:
    """FLOPs of a teacher that says energies and forces of ``atoms`` atoms once."""
    return CALL * flops_per_atom * atoms


def scoring(flops_per_atom: float, atoms: float, probes: int = 2) -> float:
    """FLOPs of scores by energy and forces: a call, and a backward pass through it per derivative."""
    return (CALL + (1 + probes) * (STEP - CALL)) * flops_per_atom * atoms


def choosing(pipeline: str, flops_per_atom: float, sizes: Sequence[int]) -> float:
    """FLOPs of the scores of a pipeline on structures of ``sizes`` atoms.

    All are counted as if done on the unpruned model; criteria that look at no structures cost nothing,
    and the few calls of drop-layers are not counted.
    """
    from irprune.passes.criteria import criterion_named
    from irprune.pipeline import Pipeline

    spent = 0.0
    for p in Pipeline.parse(pipeline).passes:
        options: Any = p
        if p.name == "score" and criterion_named(options.by).structures:
            atoms = sum(sizes[: options.structures])
            spent += {
                "energy-force": scoring(flops_per_atom, atoms, options.probes),
                "activation": flops_per_atom * atoms,
            }.get(options.by, STEP * flops_per_atom * atoms)
    return spent
