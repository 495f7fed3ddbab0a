"""MACE models with random weights: small, one for each thing that a MACE can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor, nn

from irprune.families.base import Loaded
from irprune.families.mace.library import import_mace
from irprune.families.mace.load import wrap

o3 = import_mace("e3nn.o3")
torch.set_num_threads(1)
modules = import_mace()
NUMBERS = (1, 6, 8)
INTERACTIONS: tuple[str, ...] = tuple(modules.interaction_classes)


@pytest.fixture(scope="module", autouse=True)
def without_torchscript() -> Iterator[None]:
    """e3nn layers built in a test module that imports this are plain Python: twice as fast to make.

    The real checkpoints hold TorchScript.
    """
    import e3nn

    before = dict(e3nn.get_optimization_defaults())
    e3nn.set_optimization_defaults(jit_script_fx=False)
    yield
    e3nn.set_optimization_defaults(**before)


def build(
    hidden: str = "8x0e+8x1o+8x2e",
    *,
    interaction: str = "RealAgnosticResidualInteractionBlock",
    first: str = "RealAgnosticInteractionBlock",
    heads: Sequence[str] = ("Default",),
    cls: str = "ScaleShiftMACE",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **changes: Any,
) -> nn.Module:
    """A model of three elements; ``changes`` are arguments of the class."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    n = len(heads)
    config: dict[str, Any] = {
        "r_max": 4.0,
        "num_bessel": 5,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": modules.interaction_classes[interaction],
        "interaction_cls_first": modules.interaction_classes[first],
        "num_interactions": 2,
        "num_elements": len(NUMBERS),
        "hidden_irreps": o3.Irreps(hidden),
        "MLP_irreps": o3.Irreps("6x0e"),
        "atomic_energies": np.linspace(-3.0, -1.0, n * len(NUMBERS)).reshape(n, -1),
        "avg_num_neighbors": 7.3,
        "atomic_numbers": list(NUMBERS),
        "correlation": 3,
        "gate": torch.nn.functional.silu,
        "radial_MLP": [8, 9],
        "heads": list(heads),
        "use_reduced_cg": False,
    }
    if cls == "ScaleShiftMACE":
        config["atomic_inter_scale"] = np.linspace(0.8, 1.3, n)
        config["atomic_inter_shift"] = np.linspace(0.1, 0.4, n)
    try:
        model: nn.Module = getattr(modules, cls)(**{**config, **changes})
    finally:
        torch.set_default_dtype(before)
    return model.eval()


STYLES: Mapping[str, Mapping[str, Any]] = {
    "mp": {
        "hidden": "8x0e",
        "first": "RealAgnosticResidualInteractionBlock",
        "max_ell": 3,
    },
    "off": {"hidden": "8x0e", "heads": ("Default",), "max_ell": 3},
    "omat": {
        "hidden": "8x0e",
        "first": "RealAgnosticDensityInteractionBlock",
        "interaction": "RealAgnosticDensityResidualInteractionBlock",
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
    },
    "heads": {
        "heads": ("dft", "ccsd"),
        "interaction": "RealAgnosticDensityResidualInteractionBlock",
        "hidden": "6x0e+6x1o",
    },
    "bias": {
        "heads": ("dft", "ccsd"),
        "hidden": "6x0e+6x1o",
        "interaction": "RealAgnosticResidualNonLinearInteractionBlock",
        "first": "RealAgnosticResidualNonLinearInteractionBlock",
        "readout_cls": modules.NonLinearBiasReadoutBlock,
        "apply_cutoff": False,
        "edge_irreps": o3.Irreps("5x0e+4x1o"),
    },
    "agnostic": {"hidden": "6x0e+6x1o", "use_agnostic_product": True, "correlation": 2},
    "so3": {"hidden": "6x0e+6x1e", "use_so3": True, "correlation": 2},
    "deep": {"hidden": "4x0e+4x1o", "num_interactions": 4, "correlation": [2, 3, 1, 2]},
    "single": {"hidden": "4x0e", "num_interactions": 1, "radial_type": "gaussian"},
    "last": {
        "hidden": "4x0e+4x1o",
        "keep_last_layer_irreps": True,
        "use_last_readout_only": True,
        "distance_transform": "Soft",
        "radial_type": "chebyshev",
    },
    "plain": {"hidden": "4x0e+4x1o", "cls": "MACE", "pair_repulsion": True},
    "float32": {"hidden": "4x0e+4x1o", "dtype": torch.float32},
    "reduced": {"hidden": "6x0e+6x1o", "use_reduced_cg": True},
}
"""Name → arguments of ``build``."""


def interaction_arguments(name: str) -> dict[str, Any]:
    """``build`` arguments for hidden 16x0e+16x1o+16x2e with one block class in both places."""
    return {
        "hidden": "16x0e+16x1o+16x2e",
        "interaction": name,
        "first": name,
        "edge_irreps": None,
    }


def loaded(name: str) -> Loaded:
    return wrap(build(**STYLES[name]), "")  # type: ignore[arg-type]


def structures() -> list[Atoms]:
    """A molecule, a crystal, an isolated atom, and two atoms too far apart for an edge."""
    water = molecule("CH3OH")
    water.rattle(0.05, seed=1)
    crystal = bulk("C", "diamond", a=3.6, cubic=True)
    crystal.rattle(0.05, seed=2)
    crystal.numbers[::3] = 8
    far = Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])
    return [water, crystal, Atoms("H", [[0.1, 0.2, 0.3]]), far]


def node_energies(model: Any, batch: Any) -> Tensor:
    """What mace's own forward gives as ``node_energy`` [N] for a batch."""
    n_graphs = len(batch)
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), batch.n_atoms.cumsum(0)])
    first = ends[:-1]
    images = torch.einsum("ei,eij->ej", batch.shifts, batch.cell[batch.edge_batch])
    data = {
        "positions": batch.positions.clone(),
        "shifts": images,
        "unit_shifts": batch.shifts,
        "cell": batch.cell.reshape(-1, 3),
        "edge_index": batch.edge_index,
        "node_attrs": torch.eye(int(model.atomic_numbers.numel()), dtype=batch.positions.dtype)[
            batch.species
        ],
        "batch": batch.batch,
        "ptr": ends,
        "head": batch.head[first],
    }
    assert len(first) == n_graphs
    return model(data, compute_force=False)["node_energy"].detach()
