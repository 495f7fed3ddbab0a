"""The arguments of a MACE class, read off a model.

``mace.tools.scripts_utils.extract_config_mace_model`` does this as well, for the state of the library
that wrote the model, and leaves some out (correlation per layer, keep_last_layer_irreps, models
without scale and shift).
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn import o3

from irprune.errors import LegalityError
from irprune.families.mace import contraction
from irprune.families.mace.library import import_mace
from irprune.families.mace.ops_layers import RadialEmbedding
from irprune.graph import EquivariantGraph
from irprune.ops.activations import raw
from irprune.ops.constants import in_dtype_of


def config_of(model: Any) -> dict[str, Any]:
    """Keyword arguments that ``type(model)`` was built with.

    Raises:
        LegalityError: layers that one config cannot describe; names them.
    """
    layers = len(model.interactions)
    kinds = {type(i) for i in model.interactions[1:]} or {type(model.interactions[0])}
    if len(kinds) > 1:
        raise LegalityError(
            "a MACE config has one interaction class for all layers after the first; this model has"
            f" {', '.join(sorted(k.__name__ for k in kinds))}; use target surgery or graph"
        )
    heads = list(getattr(model, "heads", None) or ["Default"])
    embedding = RadialEmbedding().spec(model.radial_embedding)
    hidden = _irreps(model.products[0].linear.irreps_out)
    top = _irreps(model.products[-1].linear.irreps_out)
    readout = model.readouts[-1] if len(model.readouts) else None
    config: dict[str, Any] = {
        "r_max": embedding["r_max"],
        "num_bessel": embedding["num_bessel"],
        "num_polynomial_cutoff": embedding["num_polynomial_cutoff"],
        "radial_type": embedding["radial_type"],
        "distance_transform": embedding["distance_transform"],
        "apply_cutoff": embedding["apply_cutoff"],
        "max_ell": _irreps(model.spherical_harmonics.irreps_out).lmax,
        "interaction_cls": kinds.pop(),
        "interaction_cls_first": type(model.interactions[0]),
        "num_interactions": layers,
        "num_elements": int(model.atomic_numbers.numel()),
        "hidden_irreps": hidden,
        "keep_last_layer_irreps": layers > 1 and top == hidden and len(hidden) > 1,
        "edge_irreps": _optional_irreps(getattr(model, "edge_irreps", None)),
        "use_edge_irreps_first": bool(getattr(model, "use_edge_irreps_first", False)),
        "MLP_irreps": o3.Irreps("1x0e"),
        "gate": None,
        "atomic_energies": model.atomic_energies_fn.atomic_energies.cpu().numpy(),
        "avg_num_neighbors": float(model.interactions[0].avg_num_neighbors),
        "atomic_numbers": [int(z) for z in model.atomic_numbers],
        "correlation": [int(p.symmetric_contractions.contractions[0].correlation)
                        for p in model.products],
        "radial_MLP": radial_widths(model.interactions[0]),
        "pair_repulsion": hasattr(model, "pair_repulsion_fn"),
        "use_reduced_cg": all(_reduced(p) for p in model.products),
        "use_so3": bool(getattr(model, "use_so3", False)),
        "use_agnostic_product": bool(getattr(model, "use_agnostic_product", False)),
        "use_last_readout_only": len(model.readouts) == 1 and layers > 1,
        "heads": heads,
    }  # fmt: skip
    if readout is not None and hasattr(readout, "hidden_irreps"):
        config["MLP_irreps"] = o3.Irreps([(readout.linear_1.irreps_out.dim // len(heads), (0, 1))])
        config["gate"] = raw(readout.non_linearity.acts[0])
    if readout is not None and layers > 1:
        config["readout_cls"] = type(readout)
    if hasattr(model, "scale_shift"):
        config["atomic_inter_scale"] = model.scale_shift.scale.cpu().numpy()
        config["atomic_inter_shift"] = model.scale_shift.shift.cpu().numpy()
    return config


def _irreps(x: Any) -> o3.Irreps:
    return o3.Irreps(str(x))


def _optional_irreps(x: Any) -> o3.Irreps | None:
    return None if x is None else _irreps(x)


def _reduced(product: Any) -> bool:
    """Whether the tensors are those of ``use_reduced_cg``, which say so better than the flag does."""
    return contraction.is_symmetric(contraction.read(product.symmetric_contractions))


def radial_widths(interaction: Any) -> list[int]:
    """Widths between the radial basis and the path weights."""
    if type(interaction).__name__ == "RealAgnosticAttResidualInteractionBlock":
        return [int(h) for h in getattr(interaction, "radial_MLP", None) or [64, 64, 64]]
    return [int(h) for h in interaction.conv_tp_weights.hs[1:-1]]


def sliced_config(graph: EquivariantGraph) -> dict[str, Any]:
    """The config of the original, with the sizes of the graph as it stands.

    The sizes of the first layers are taken for all; whether the rest agrees is checked on the model
    that is built from it.

    Raises:
        LegalityError: a size that the graph does not show.
    """
    assert graph.source is not None
    config = config_of(graph.source.module)
    root: Any = graph.gm.model
    channels = _irreps(root.node_embedding.linear.irreps_out).count("0e")
    orders = [ir for _, ir in _irreps(root.products._modules["0"].linear.irreps_out)]
    config["hidden_irreps"] = o3.Irreps([(channels, ir) for ir in orders])
    config["max_ell"] = _irreps(root.spherical_harmonics.irreps_out).lmax
    products = root.products._modules.values()
    config["correlation"] = [
        int(p.symmetric_contractions.contractions[0].correlation) for p in products
    ]
    first = root.interactions._modules["0"]
    config["radial_MLP"] = _widths(config, first)
    if config["edge_irreps"] is not None:
        config["edge_irreps"] = _edge_irreps(config, root)
    last = str(max((int(k) for k in root.readouts._modules), default=0))
    readout = root.readouts._modules.get(last)
    if readout is not None and hasattr(readout, "linear_1"):
        width = readout.linear_1.irreps_out.dim // len(config["heads"])
        config["MLP_irreps"] = o3.Irreps([(width, (0, 1))])
    return config


def _widths(config: dict[str, Any], first: Any) -> list[int]:
    if config["interaction_cls_first"].__name__ == "RealAgnosticAttResidualInteractionBlock":
        return list(config["radial_MLP"])
    return [int(h) for h in first.conv_tp_weights.hs[1:-1]]


def _edge_irreps(config: dict[str, Any], root: Any) -> o3.Irreps:
    """What messages take up, with orders that are gone in layer 1 left out."""
    layers = root.interactions._modules
    if "1" in layers:
        return _irreps(layers["1"].linear_up.irreps_out)
    if config["use_edge_irreps_first"]:
        return _irreps(layers["0"].linear_up.irreps_out)
    return config["edge_irreps"]


def build(cls: type, config: dict[str, Any], like: torch.nn.Module) -> torch.nn.Module:
    """A model of the class, in the dtype of ``like``, without touching torch's random state.

    Raises:
        LegalityError: mace cannot build it; carries its reason.
    """
    import_mace()
    with torch.random.fork_rng(devices=[]), in_dtype_of(like):
        try:
            made: torch.nn.Module = cls(**config)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise LegalityError(
                f"mace cannot build a {cls.__name__} with hidden_irreps={config['hidden_irreps']},"
                f" max_ell={config['max_ell']}: {reason}"
            ) from error
    return made.eval()
