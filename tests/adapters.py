"""SevenNet and MACE modules behind the signature of a model, without irprune's own loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irprune.atomistic import Atomistic

torch.serialization.add_safe_globals([slice])


class SevenNetAdapter(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        skipped = {"reduce_total_enegy", "force_output"}
        self.layers = nn.ModuleList(m for k, m in model._modules.items() if k not in skipped)

    def forward(self, vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor) -> Tensor:
        data = {
            "x": species,
            "atomic_numbers": species,
            "edge_index": edge_index,
            "edge_vec": vectors,
            "edge_length": vectors.norm(dim=1),
            "num_atoms": torch.tensor(len(species)),
        }
        for layer in self.layers:
            data = layer(data)
            if type(layer).__name__ == "OnehotEmbedding":  # always gives the default dtype
                data["x"] = data["x"].to(vectors.dtype)
                data["node_attr"] = data["node_attr"].to(vectors.dtype)
        return data["atomic_energy"].reshape(-1)


def sevennet(name: str = "7net-0") -> tuple[SevenNetAdapter, Atomistic]:
    from sevenn.util import model_from_checkpoint, pretrained_name_to_path

    model, config = model_from_checkpoint(pretrained_name_to_path(name))
    type_map = config["_type_map"]
    numbers = tuple(sorted(type_map, key=type_map.__getitem__))
    about = Atomistic(
        "sevennet", float(config["cutoff"]), numbers, name=name, inversion=config["is_parity"]
    )
    return SevenNetAdapter(model), about


class MaceAdapter(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor, species: Tensor, edge_index: Tensor, head: Tensor) -> Tensor:
        n, z = len(species), self.model.atomic_numbers.numel()
        data = {
            "positions": vectors.new_zeros(n, 3),
            "shifts": vectors,
            "unit_shifts": torch.zeros_like(vectors),
            "cell": torch.eye(3, dtype=vectors.dtype),
            "edge_index": edge_index,
            "node_attrs": torch.eye(z, dtype=vectors.dtype)[species],
            "batch": torch.zeros(n, dtype=torch.int64),
            "ptr": torch.tensor([0, n]),
            "head": torch.zeros(1, dtype=torch.int64),
        }
        return self.model(data, compute_force=False)["node_energy"]


def mace(path: Path) -> tuple[MaceAdapter, Atomistic]:
    import mace.modules  # noqa: F401 - the classes of the pickle

    model = torch.load(path, map_location="cpu", weights_only=False)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    numbers = tuple(int(z) for z in model.atomic_numbers)
    about = Atomistic("mace", float(model.r_max), numbers, dtype=dtype, name=path.stem)
    return MaceAdapter(model), about
