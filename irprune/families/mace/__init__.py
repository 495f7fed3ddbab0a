"""MACE: checkpoints of mace-torch, as a family. ``mace`` itself is imported only when needed."""

from __future__ import annotations

from irprune.compat import prepare_e3nn

prepare_e3nn()

from irprune.families.mace.family import MaceFamily  # noqa: E402 - e3nn must be prepared first

__all__ = ["MaceFamily", "register_ops"]


def register_ops() -> None:
    """Registers the ops of MACE's own layers; may be called often."""
    from irprune.families.mace import ops  # noqa: F401 - registers them
