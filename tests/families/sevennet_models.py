"""Small SevenNet models with random weights, and sevenn's own layers as the reference."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from irprune.compat import prepare_e3nn
from irprune.families import load_model
from irprune.graph import EquivariantGraph

prepare_e3nn()


@cache
def _full_tensor_product(a: Any, b: Any) -> Any:
    from e3nn.o3 import FullTensorProduct

    return FullTensorProduct(a, b)


def _build_quickly() -> None:
    """sevenn makes a module to learn its irreps, a third of the time of a build: make it once."""
    import sevenn.util

    sevenn.util.FullTensorProduct = _full_tensor_product


_build_quickly()

VARIANTS: dict[str, dict[str, Any]] = {
    "parity-nequip-bias": {
        "is_parity": True, "self_connection_type": "nequip", "use_bias_in_linear": True, "lmax": 2,
    },
    "even-linear-xplor": {
        "is_parity": False, "self_connection_type": "linear", "lmax": 1,
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 2.5},
        "radial_basis": {
            "radial_basis_name": "bessel", "bessel_basis_num": 6, "trainable_coeff": False,
        },
    },
    "manual-readout-fcn": {
        "is_parity": False, "self_connection_type": "linear", "lmax": 3, "lmax_edge": 2,
        "num_convolution_layer": 3,
        "irreps_manual": ["8x0e", "6x0e+4x1e+3x2e+2x3e", "4x0e+5x1e+2x3e", "7x0e"],
        "readout_as_fcn": True, "readout_fcn_hidden_neurons": [6, 5],
        "readout_fcn_activation": "silu", "_normalize_sph": False,
        "conv_denominator": [2.5, 3.5, 4.5],
    },
    "ssp-parity-linear": {
        "is_parity": True, "self_connection_type": "linear", "lmax": 1, "act_radial": "ssp",
        "act_scalar": {"e": "ssp", "o": "tanh"}, "act_gate": {"e": "ssp", "o": "tanh"},
        "use_bias_in_linear": True, "shift": -1.5, "scale": 2.0,
    },
    "odd-width-lmax3-nequip": {
        "is_parity": True, "self_connection_type": "nequip", "lmax": 3, "lmax_node": 2,
        "channel": 5, "weight_nn_hidden_neurons": [6],
    },
}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    """A complete config of a small model for H, C and O."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sevenn._const as const
        from sevenn.util import chemical_species_preprocess
    made = {
        **copy.deepcopy(const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG),
        **chemical_species_preprocess(["H", "C", "O"]),
        "readout_fcn_hidden_neurons": None,
        "readout_fcn_activation": None,
        "channel": 8,
        "cutoff": 3.5,
        "num_convolution_layer": 2,
        "weight_nn_hidden_neurons": [6, 5],
        "conv_denominator": 4.0,
        "shift": [-1.0, -2.0, -3.0],
        "scale": [1.5, 0.5, 2.5],
        "version": "0.10.4",
        "_model_type": "E3_equivariant_model",
    }
    return {**made, **copy.deepcopy(changes)}


def build(seed: int = 0, **changes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """sevenn's own model with random weights (biases, shifts and scales too), and its config."""
    from sevenn.model_build import build_E3_equivariant_model

    settings = config(**changes)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = build_E3_equivariant_model(copy.deepcopy(settings))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.endswith("bias"):
                    p.normal_()
    return model, settings


def checkpoint_of(model: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """What sevenn would save."""
    return {"model_state_dict": model.state_dict(), "config": settings, "epoch": 3}


@cache
def _tiny() -> tuple[nn.Module, dict[str, Any]]:
    return build(lmax=1, num_convolution_layer=1, channel=2, is_parity=False)


def tiny_checkpoint() -> dict[str, Any]:
    """A checkpoint of a model that is quick to build."""
    model, settings = _tiny()
    return checkpoint_of(model, copy.deepcopy(settings))


class Small(NamedTuple):
    """A model by sevenn itself, and the graph that irprune made of its file."""

    model: nn.Module
    graph: EquivariantGraph
    path: Path


_FOLDER = tempfile.TemporaryDirectory(prefix="irprune-sevennet-")


@cache
def small(variant: str) -> Small:
    """One of ``VARIANTS``; made once per process."""
    model, settings = build(**VARIANTS[variant])
    path = Path(_FOLDER.name) / f"{variant}.pth"
    torch.save(checkpoint_of(model, settings), path)
    return Small(model, load_model(path), path)


@cache
def sevennet_0() -> EquivariantGraph:
    """The pretrained model, loaded once per process."""
    return load_model("7net-0")


class Original(nn.Module):
    """sevenn's own ``AtomGraphSequential``, with its one-hot in the dtype of the vectors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor) -> Tensor:
        data = {"x": species, "edge_index": edge_index, "edge_vec": vectors}
        for name, layer in self.model.named_children():
            if name in ("reduce_total_enegy", "force_output"):
                continue
            data = layer(data)
            if name == "onehot_idx_to_onehot":
                data["x"] = data["x"].to(vectors.dtype)
                data["node_attr"] = data["node_attr"].to(vectors.dtype)
        return data["atomic_energy"].reshape(-1)


def frames(numbers: Sequence[int] = (1, 6, 8), seed: int = 0) -> list[Atoms]:
    """A periodic cell, a molecule, an isolated atom and two atoms out of reach of each other."""
    rng = np.random.default_rng(seed)
    z = rng.choice(list(numbers), 16)
    grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)]) * 2.1
    crystal = Atoms(z[:8], grid + rng.normal(0, 0.1, (8, 3)), cell=[4.3, 4.2, 4.1], pbc=True)
    molecule = Atoms(z[8:13], rng.normal(0, 0.1, (5, 3)) + grid[:5])
    alone = Atoms([z[13]], [[0.0, 0.0, 0.0]])
    far = Atoms(z[14:16], [[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    return [crystal, molecule, alone, far]
