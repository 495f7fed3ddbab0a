"""Surgery: the original MACE module with its layers replaced by the sliced ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from e3nn import o3
from torch import nn

from irprune.errors import ExactnessError, LegalityError
from irprune.families.mace.export import compare, save
from irprune.graph import EquivariantGraph

ALLOWED = ("torch", "e3nn", "mace", "opt_einsum_fx")
"""Packages whose modules a file may hold, so that it loads without irprune."""


def export_surgery(graph: EquivariantGraph, path: Path) -> None:
    """Writes a ``.model`` file that mace loads without irprune.

    Raises:
        LegalityError: a layer that is no layer of mace, e3nn or torch, or a model that computes
            something else than the graph; names what.
    """
    save(operated_model(graph), path)


def operated_model(graph: EquivariantGraph) -> nn.Module:
    """A copy of the original with the graph's modules at the same paths.

    Raises:
        LegalityError: see ``export_surgery``.
    """
    if graph.source is None or graph.source.family != "mace":
        raise LegalityError(
            "surgery needs a graph that was loaded from a MACE checkpoint; use target graph"
        )
    dtype = next(p.dtype for p in graph.gm.parameters())
    model = copy.deepcopy(graph.source.module).to(dtype)
    for node in graph.gm.graph.nodes:
        path = str(node.target)
        if node.op != "call_module" or not path.startswith("model."):
            continue
        small = copy.deepcopy(graph.gm.get_submodule(path))
        parent, _, name = path.removeprefix("model.").rpartition(".")
        try:
            owner: Any = model.get_submodule(parent)
        except AttributeError as error:
            raise LegalityError(f"surgery: the original has no module {parent}") from error
        owner._modules[name] = small
    _only_known(model)
    _describe(model)
    try:
        compare(graph, model, "the MACE model with replaced layers")
    except (ExactnessError, RuntimeError) as error:
        raise LegalityError(
            f"surgery: MACE's own code around the replaced layers does not compute the graph:"
            f" {str(error).splitlines()[0]}"
        ) from error
    return model


def _only_known(model: nn.Module) -> None:
    for name, module in model.named_modules():
        package = type(module).__module__.partition(".")[0]
        if package not in ALLOWED:
            raise LegalityError(
                f"surgery: {name} is a {type(module).__module__}.{type(module).__qualname__}, which a"
                f" process without irprune cannot load; known are layers of {', '.join(ALLOWED)}"
            )


def _describe(model: Any) -> None:
    """Attributes that say what the layers are, made true again; no computation reads them."""
    feats = o3.Irreps(str(model.node_embedding.linear.irreps_out))
    for interaction, product in zip(model.interactions, model.products, strict=True):
        interaction.node_feats_irreps = feats
        interaction.edge_irreps = o3.Irreps(str(interaction.linear_up.irreps_out))
        interaction.edge_attrs_irreps = o3.Irreps(str(model.spherical_harmonics.irreps_out))
        interaction.target_irreps = interaction.irreps_out = o3.Irreps(
            str(interaction.reshape.irreps)
        )
        feats = o3.Irreps(str(product.linear.irreps_out))
        interaction.hidden_irreps = feats
        hs = getattr(interaction.conv_tp_weights, "hs", None)
        if hs is not None:
            interaction.radial_MLP = [int(h) for h in hs[1:-1]]
    for readout in model.readouts:
        if hasattr(readout, "hidden_irreps"):
            readout.hidden_irreps = o3.Irreps(str(readout.linear_1.irreps_out))
