"""Loading SevenNet checkpoints, safely."""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irprune.atomistic import Atomistic
from irprune.compat import prepare_e3nn
from irprune.errors import ModelFileError, UsageError
from irprune.families.base import Loaded
from irprune.families.inspect import describe, pickle_summary

_DATES = ("-0", "-0_11jul2024", "-0_11july2024", "-0_22may2024", "-l3i5")
NAMES = tuple(head + date for head in ("7net", "sevennet") for date in _DATES)
"""Names of models whose weights are inside the sevenn package, as sevenn spells them."""
_KEYS = frozenset({"model_state_dict", "config", "_type_map"})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings that sevenn and e3nn give at import and when they fill in defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_sevenn() -> Any:
    """The ``sevenn`` package, with the modules that irprune uses imported.

    Raises:
        ModelFileError: it is not installed.
    """
    prepare_e3nn()
    try:
        with quiet():
            import sevenn
            import sevenn._keys
            import sevenn.model_build
            import sevenn.nn.convolution
            import sevenn.util
    except ImportError as error:
        raise ModelFileError(
            f"SevenNet models need the sevenn package ({error}); pip install irprune[sevennet]"
        ) from error
    return sevenn


def is_name(name: str) -> bool:
    """Whether sevenn resolves the name (in any case) to weights inside its package."""
    return name.lower() in NAMES


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file is a SevenNet checkpoint, judged by the names in its pickle."""
    summary = pickle_summary(path)
    return summary is not None and summary.strings >= _KEYS


def load(name_or_path: str, trust: bool) -> Loaded:
    """A checkpoint file, or a name that the installed sevenn package holds the weights of.

    Raises:
        UsageError: there is no such file or name.
        ModelFileError: it cannot be read, needs trust, or sevenn cannot build it.
    """
    path = Path(name_or_path)
    if path.is_file():
        checkpoint = read_checkpoint(path, trust)
        name = path.stem
    elif is_name(name_or_path):
        sevenn = import_sevenn()
        name = name_or_path.lower()
        path = Path(sevenn.util.pretrained_name_to_path(name))
        checkpoint = read_checkpoint(path, trust=True)
    else:
        raise UsageError(f"there is no SevenNet file or model {name_or_path}")
    module, config = build(checkpoint, name_or_path)
    return Loaded(module, config, describe_atoms(config, name), str(path))


def read_checkpoint(path: Path, trust: bool) -> dict[str, Any]:
    """The dictionary that the file holds; unpickles plain data only, unless it is trusted.

    Raises:
        ModelFileError: see ``load``.
    """
    if path.stat().st_size == 0 or pickle_summary(path) is None:
        raise ModelFileError(
            f"cannot read {path}: it is {describe(path)}; a SevenNet checkpoint is a file that"
            " torch.save wrote, so copy or download it again"
        )
    try:
        with torch.serialization.safe_globals(_plain_types()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            raise ModelFileError(
                f"{path} holds more than plain data ({_reason(error)}), and unpickling it could run"
                " code; if you trust its source, pass --trust-pickle (trust=True)"
            ) from error
        found = _load_trusted(path)
    except Exception as error:
        raise _damaged(path, error) from error
    missing = {"model_state_dict", "config"} - set(found if isinstance(found, dict) else ())
    if missing:
        raise ModelFileError(
            f"{path} is no SevenNet checkpoint: it lacks {', '.join(sorted(missing))}"
        )
    return dict(found)


def _load_trusted(path: Path) -> Any:
    import_sevenn()
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"cannot read {path}: {one_line(error)}; the file is damaged or incomplete, so copy or"
        " download it again"
    )


def _plain_types() -> list[Any]:
    """numpy arrays and numbers, which SevenNet configs hold; under numpy's old and new names."""
    try:
        from numpy._core import multiarray
    except ImportError:  # numpy < 2
        from numpy.core import multiarray  # type: ignore[no-redef]
    functions = [
        (getattr(multiarray, f), f"numpy.{core}.multiarray.{f}")
        for f in ("_reconstruct", "scalar")
        for core in ("core", "_core")
    ]
    kinds = [type(np.dtype(t)) for t in ("f2", "f4", "f8", "i4", "i8", "u1", "u4", "u8", "?", "U1")]
    return [*functions, np.ndarray, np.dtype, *kinds]


def _reason(error: Exception) -> str:
    """The name that safe loading stumbled over, from torch's long message."""
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class ", "Trying to load "):
        if mark in text:
            return text.partition(mark)[2].split()[0]
    return "an object of a class that is not plain data"


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def build(checkpoint: dict[str, Any], path: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The model and its completed config, as sevenn makes them.

    Raises:
        ModelFileError: sevenn cannot build the model that the config describes.
    """
    sevenn = import_sevenn()
    plain = {**checkpoint, "config": copy.deepcopy(checkpoint["config"])}
    try:
        with quiet(), _default_float32(), torch.random.fork_rng(devices=[]):
            module, config = sevenn.util.model_from_checkpoint(plain)
    except Exception as error:
        raise ModelFileError(
            f"sevenn {_version()} cannot build the model in {path}: {one_line(error)}; its config"
            " and weights do not fit, or it was made by a newer sevenn"
        ) from error
    _plain_activations(module)
    return module.eval(), dict(config)


def _plain_activations(module: torch.nn.Module) -> None:
    """Puts the same function in Python in place of sevenn's TorchScript ShiftedSoftPlus.

    A TorchScript function cannot be copied, and may change by a rounding when it is compiled.
    """
    from irprune.ops.activations import shifted_softplus

    child: Any
    for child in module.modules():
        f: Any = getattr(child, "f", None)
        if type(f).__name__ == "ScriptFunction" and f.name == "ShiftedSoftPlus":
            child.f = shifted_softplus


def build_from_config(config: dict[str, Any]) -> torch.nn.Module:
    """sevenn's model for a completed config, with random weights, in float32."""
    sevenn = import_sevenn()
    with quiet(), _default_float32(), torch.random.fork_rng(devices=[]):
        made: torch.nn.Module = sevenn.model_build.build_E3_equivariant_model(config)
    _plain_activations(made)
    return made.eval()


@contextlib.contextmanager
def _default_float32() -> Iterator[None]:
    """SevenNet builds its constants in torch's default dtype, and is a float32 model."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _version() -> str:
    from importlib.metadata import version

    return version("sevenn")


def describe_atoms(config: dict[str, Any], name: str) -> Atomistic:
    """Elements in species order, cutoff (Å) and symmetry from a completed config."""
    species = {int(i): int(z) for z, i in config["_type_map"].items()}
    return Atomistic(
        "sevennet",
        float(config["cutoff"]),
        tuple(species[i] for i in range(len(species))),
        dtype="float32",
        name=name,
        inversion=bool(config["is_parity"]),
    )
