"""Importing mace-torch, on first use and without its side effects."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from irprune.compat import prepare_e3nn
from irprune.errors import ModelFileError

_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def _without_side_effects() -> Iterator[None]:
    """mace switches safe loading off for the whole process, and prints to stdout, on import.

    The switch goes back to what it was; what mace prints goes to stderr.
    """
    before = os.environ.get(_SWITCH)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before


def import_mace(name: str = "mace.modules") -> Any:
    """A module of mace-torch.

    Raises:
        ModelFileError: mace-torch is not installed.
    """
    prepare_e3nn()
    importlib.import_module("e3nn.o3")  # before mace, which would switch safe loading off for it
    with _without_side_effects():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "mace":
                raise
            raise ModelFileError(
                "this is a MACE model, and mace-torch is not installed; pip install irprune[mace]"
            ) from error
