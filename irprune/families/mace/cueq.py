"""MACE models with layers of cuEquivariance: back to e3nn layers when they are loaded.

mace-torch converts in both directions. With e3nn layers every pass and every tier of export works;
``enable_cueq`` of mace's calculator accelerates what is exported, as it does any other model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from irprune.errors import ModelFileError
from irprune.families.mace.library import import_mace

ALLOWED = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest difference of atomic energies, and of forces, relative to the largest of them."""
SPACING = 2.2
"""Å between the atoms of the structure that both models are compared on."""


def has_cueq(model: nn.Module) -> bool:
    """Whether some layer is cuEquivariance's, or is told to work with it."""
    return any(
        type(m).__module__.partition(".")[0] in ("cuequivariance", "cuequivariance_torch")
        or getattr(getattr(m, "cueq_config", None), "enabled", False)
        for m in model.modules()
    )


def to_e3nn(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The same model with e3nn layers, by mace-torch's own converter, and what was done.

    Both are compared on a structure with every element, for every head.

    Raises:
        ModelFileError: the converter fails, the model does not run here, or the two differ.
    """
    source: Any = model.eval()
    try:
        made = _convert(source)
    except Exception as error:  # mace's code runs here
        raise ModelFileError(
            f"{path}: has layers of cuEquivariance, which mace-torch's converter to e3nn layers"
            f" (python -m mace.cli.convert_cueq_e3nn) does not take: {_said(error)}; save the model"
            " with e3nn layers where it was made, without enable_cueq"
        ) from error
    differences: list[float] = []
    heads = len(getattr(source, "heads", None) or ("Default",))
    for head in range(heads):
        try:
            want = _values(source, head)
        except Exception as error:  # likewise
            raise ModelFileError(
                f"{path}: has layers of cuEquivariance that do not run on this machine, so what they"
                f" are converted to cannot be checked: {_said(error)}; convert it where it was made"
                " (python -m mace.cli.convert_cueq_e3nn)"
            ) from error
        for a, b in zip(_values(made, head), want, strict=True):
            size = b.abs().max().clamp_min(torch.finfo(b.dtype).tiny)
            differences.append(float((a - b).abs().max() / size))
    difference = float(np.max(differences))  # NaN where one is
    allowed = ALLOWED[next(source.parameters()).dtype]
    if not difference <= allowed:
        raise ModelFileError(
            f"{path}: has layers of cuEquivariance, and the e3nn layers that mace-torch's converter"
            f" makes of them give other energies and forces (relative difference {difference:.1e},"
            f" allowed {allowed:.0e}); save the model with e3nn layers where it was made"
        )
    return made, (
        f"{path or 'the model'}: its layers of cuEquivariance were converted to e3nn layers by"
        f" mace-torch; energies and forces of atoms agree to {difference:.0e} of the largest"
    )


def _convert(source: Any) -> Any:
    convert = import_mace("mace.cli.convert_cueq_e3nn").run
    before = torch.get_default_dtype()
    try:
        return convert(source).eval()
    finally:
        torch.set_default_dtype(before)  # mace sets it to that of the model


def _said(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no reason given')}"
    )


def _values(model: Any, head: int) -> tuple[Tensor, Tensor]:
    """Energies [N] and forces [N, 3] of a cluster of all elements, with mace's own forward.

    Energies show constants; forces show what isolated-atom energies would hide.
    """
    like = next(model.parameters())
    elements = int(model.atomic_numbers.numel())
    n = max(elements, 4)
    side = torch.arange(round(n ** (1 / 3)) + 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    positions = torch.cartesian_prod(side, side, side)[:n] * SPACING
    positions = positions + 0.4 * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    apart = torch.cdist(positions, positions)
    edges = torch.nonzero((apart < float(model.r_max)) & (apart > 0)).T
    data = {
        "positions": positions.to(like),
        "shifts": like.new_zeros(edges.shape[1], 3),
        "unit_shifts": like.new_zeros(edges.shape[1], 3),
        "cell": like.new_zeros(3, 3),
        "edge_index": edges,
        "node_attrs": torch.eye(elements, dtype=like.dtype)[torch.arange(n) % elements],
        "batch": torch.zeros(n, dtype=torch.int64),
        "ptr": torch.tensor([0, n]),
        "head": torch.tensor([head]),
    }
    found = model(data)
    return found["node_energy"].detach().double(), found["forces"].detach().double()
