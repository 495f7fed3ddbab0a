"""All OpDefs of MACE's own layers; importing this module registers them. Does not import mace."""

from __future__ import annotations

from irprune.families.mace import ops_contraction, ops_gate, ops_layers

__all__ = ["ops_contraction", "ops_gate", "ops_layers"]
