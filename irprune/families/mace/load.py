"""Finding out whether a file is a MACE model, and loading it."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from irprune.atomistic import Atomistic
from irprune.errors import ModelFileError
from irprune.families.base import Loaded
from irprune.families.mace.cueq import has_cueq, to_e3nn
from irprune.families.mace.library import import_mace

SUPPORTED = ("ScaleShiftMACE", "MACE")
_STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE")


def root_class(path: Path) -> tuple[str, str] | None:
    """(module, class) of the object that a torch checkpoint holds; None where there is none.

    Reads the opcodes of the pickle up to the first class; nothing is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if name is None:
                return None
            with archive.open(name) as stream:
                seen: list[str] = []
                for opcode, value, _ in pickletools.genops(stream):
                    if opcode.name == "GLOBAL":
                        module, _, cls = str(value).partition(" ")
                        return module, cls
                    if opcode.name == "STACK_GLOBAL" and len(seen) > 1:
                        return seen[-2], seen[-1]
                    if opcode.name in _STRINGS:
                        seen.append(str(value))
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return None
    return None


def is_mace_file(path: Path) -> bool:
    """Whether a file is a pickle of one of mace's classes; looks, loads nothing."""
    root = root_class(path) if path.is_file() else None
    return root is not None and root[0].partition(".")[0] == "mace"


def load(path: Path, trust: bool) -> Loaded:
    """The checkpoint as mace loads it, in evaluation mode on the CPU.

    Raises:
        ModelFileError: not trusted, unreadable, or a kind of model that is not supported.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    root = root_class(path)
    if root is None:
        raise ModelFileError(
            f"{path}: not a complete torch checkpoint of a MACE model (corrupt or truncated?)"
        )
    if root[0] != "mace.modules.models" or root[1] not in SUPPORTED:
        raise ModelFileError(
            f"{path}: holds a {root[0]}.{root[1]}; supported MACE classes are"
            f" {', '.join(SUPPORTED)}, saved whole as mace saves .model files"
        )
    if not trust:
        raise ModelFileError(
            f"{path}: a MACE model file is a pickle, which can run any code when it is loaded;"
            " if you trust where it came from, pass --trust-pickle (trust=True in Python)"
        )
    import_mace()
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        if isinstance(error, ImportError) and (error.name or "").startswith("cuequivariance"):
            raise ModelFileError(
                f"{path}: has layers of cuEquivariance, which is not installed; pip install"
                " 'irprune[cueq]'"
            ) from error
        reason = str(error).strip().splitlines()
        raise ModelFileError(
            f"{path}: cannot be read as a MACE model:"
            f" {type(error).__name__}: {reason[0] if reason else 'no reason given'}"
        ) from error
    return wrap(model, str(path))


def wrap(model: nn.Module, path: str) -> Loaded:
    """A MACE module that is already in memory; layers of cuEquivariance become e3nn layers.

    Raises:
        ModelFileError: a kind of model that is not supported; names what.
    """
    decline(model, path)
    _decline_oeq(model, path)
    notes: tuple[str, ...] = ()
    if has_cueq(model):
        model, note = to_e3nn(model, path)
        notes = (note,)
    model.eval()
    for interaction in model.interactions:  # type: ignore[union-attr]
        # numpy or tensor in old checkpoints; the same number either way
        interaction.avg_num_neighbors = float(interaction.avg_num_neighbors)
    _plain_parameters(model)
    _drop_leftovers(model)
    heads = tuple(str(h) for h in getattr(model, "heads", None) or ("Default",))
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise ModelFileError(f"{path}: parameters are {dtype}; float32 and float64 are supported")
    atomistic = Atomistic(
        family="mace",
        cutoff=float(model.r_max),  # type: ignore[arg-type]
        atomic_numbers=tuple(int(z) for z in model.atomic_numbers),  # type: ignore[union-attr]
        heads=heads,
        dtype=dtype,
        name=Path(path).stem if path else "",
        inversion=not getattr(model, "use_so3", False),
        exact_edges=False,
    )
    config = {"reload_dtypes": (dtype,)} if notes else {}  # mace cannot cast such layers
    return Loaded(model, config, atomistic, path, notes)


def _plain_parameters(model: nn.Module) -> None:
    """mace's EmptyParam (a constant zero) as the plain parameter that it is after pickling.

    A model with one in it cannot be copied.
    """
    for module in model.modules():
        for name, p in module._parameters.items():
            if type(p).__name__ == "EmptyParam":
                module._parameters[name] = nn.Parameter(p.detach().clone(), requires_grad=False)  # type: ignore[union-attr]


LEFTOVERS = {"ZBLBasis": ("r_max", "cutoff")}
"""Class → what older versions kept in it and the installed one never reads."""


def _drop_leftovers(model: nn.Module) -> None:
    for module in model.modules():
        for name in LEFTOVERS.get(type(module).__name__, ()):
            module._buffers.pop(name, None)
            module._modules.pop(name, None)


def decline(model: Any, path: str) -> None:
    """Raises for models that this family does not support, whatever their layers are.

    Raises:
        ModelFileError: names the kind of model and what to do.
    """
    cls = type(model)
    if cls.__module__ != "mace.modules.models" or cls.__name__ not in SUPPORTED:
        raise ModelFileError(
            f"{path}: holds a {cls.__module__}.{cls.__qualname__};"
            f" supported MACE classes are {', '.join(SUPPORTED)}"
        )
    if hasattr(model, "joint_embedding") or hasattr(model, "embedding_readout"):
        raise ModelFileError(
            f"{path}: models with joint_embedding (embedding_specs: charge, spin, …) are not"
            " supported; only energies of positions and elements are"
        )
    if getattr(model, "lammps_mliap", False):
        raise ModelFileError(
            f"{path}: was prepared for LAMMPS (lammps_mliap); use the .model file it was made from"
        )


def _decline_oeq(model: nn.Module, path: str) -> None:
    tool = "python -m mace.cli.convert_oeq_e3nn"
    for name, module in model.named_modules():
        if type(module).__module__.partition(".")[0] == "openequivariance":
            raise ModelFileError(
                f"{path}: {name} is an openequivariance layer; convert the model to e3nn layers first"
                f" ({tool})"
            )
        if getattr(getattr(module, "oeq_config", None), "enabled", False):
            raise ModelFileError(
                f"{path}: {name or 'the model'} has oeq_config enabled; convert the model to e3nn"
                f" layers first ({tool})"
            )
