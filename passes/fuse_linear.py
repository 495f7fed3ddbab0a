"""fuse-linear: one matrix product per irrep, with every factor in the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import nn

    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class FuseLinear(Pass):
    """Replaces e3nn's linear maps and radial networks by plain matrix products.

    Normalisations and the factors of activations go into the weights; paths between the same irreps
    become one matrix. What cannot be fused stays and is named, with the reason, in the results.
    """

    name: ClassVar[str] = "fuse-linear"
    summary: ClassVar[str] = "linear maps and radial networks as plain matrix products"
    trait: ClassVar[str] = "exact-with-fold"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with fused maps; ``context.results["fuse-linear"]`` says what stayed."""
        from e3nn import nn as enn
        from e3nn import o3

        from irprune.errors import IrpruneError
        from irprune.rewriting import Rewriting, path_like

        edit, stayed = Rewriting(graph), {}
        made: dict[str, nn.Module] = {}
        for name, site in graph.sites.items():
            m = site.module
            if not isinstance(m, (o3.Linear, enn.FullyConnectedNet)) or len(site.operands) != 1:
                continue
            target = str(site.node.target)
            try:
                if target not in made:
                    made[target] = block_linear(m) if isinstance(m, o3.Linear) else dense_net(m)
            except IrpruneError as error:
                stayed[name] = str(error)
                continue
            node = edit.node(site.node)
            new = edit.module(node, f"{path_like(node)}_fused", made[target], node.args)
            edit.replace(node, new)
        context.results[self.name] = stayed
        return edit.done()


def block_linear(m: Any) -> nn.Module:
    """An ``o3.Linear`` as one matrix per irrep.

    Raises:
        LegalityError: segments of one irrep do not lie side by side.
    """
    import torch

    from irprune.errors import LegalityError
    from irprune.layers.dense import BlockLinear
    from irprune.ops.linear import Linear

    weights, biases, _ = Linear._views(m)
    groups, matrices = [], []
    for ir in dict.fromkeys(ir for _, ir in m.irreps_out):
        rows = [i for i, (_, other) in enumerate(m.irreps_in) if other == ir]
        columns = [i for i, (_, other) in enumerate(m.irreps_out) if other == ir]
        if not rows:
            continue
        for run in (rows, columns):
            if run[-1] - run[0] + 1 != len(run):
                raise LegalityError(f"its segments of {ir} do not lie side by side")
        at_in = _starts(m.irreps_in, rows)
        at_out = _starts(m.irreps_out, columns)
        size = (sum(m.irreps_in[i].mul for i in rows), sum(m.irreps_out[i].mul for i in columns))
        matrix = torch.zeros(size, dtype=torch.float64, device=m.weight.device)
        for k, w in weights.items():
            i = m.instructions[k]
            if i.i_in in at_in and i.i_out in at_out:
                a, b = at_in[i.i_in], at_out[i.i_out]
                block = matrix[a : a + w.shape[0], b : b + w.shape[1]]
                block += w.double() * i.path_weight
        groups.append((rows[0], rows[-1], columns[0], columns[-1]))
        matrices.append(matrix.to(m.weight.dtype))
    order = sorted(range(len(groups)), key=lambda g: groups[g][2])
    made = BlockLinear(
        str(m.irreps_in), str(m.irreps_out), tuple(groups[g] for g in order), bool(biases)
    )
    for place, g in enumerate(order):
        made.weights[place] = torch.nn.Parameter(matrices[g])
    if biases:
        bias = torch.zeros(m.irreps_out.dim, dtype=m.weight.dtype, device=m.weight.device)
        for i, value in biases.items():
            bias[m.irreps_out.slices()[i]] = value
        made.bias = torch.nn.Parameter(bias)
    return made


def _starts(irreps: Any, segments: list[int]) -> dict[int, int]:
    """First row of each segment in the matrix of its irrep."""
    out, at = {}, 0
    for i in segments:
        out[i] = at
        at += irreps[i].mul
    return out


def dense_net(m: Any) -> nn.Module:
    """An e3nn ``FullyConnectedNet`` with its factors in the weights.

    Raises:
        UsageError: an activation that has no name here.
    """
    import torch

    from irprune.layers.dense import DenseNet
    from irprune.ops.activations import factor_of, name_of
    from irprune.ops.radial import layers_of

    layers, acts, matrices, carried = layers_of(m), [], [], 1.0
    for layer in layers:
        scale = carried / (layer.h_in * layer.var_in) ** 0.5
        if layer.act is None:
            scale, carried = scale * layer.var_out**0.5, 1.0
        else:
            carried = (factor_of(layer.act) or 1.0) * layer.var_out**0.5
        acts.append(name_of(layer.act))
        matrices.append((layer.weight.detach().double() * scale).to(layer.weight.dtype))
    if carried != 1.0:
        identity = torch.eye(int(m.hs[-1]), dtype=torch.float64) * carried
        acts.append("none")
        matrices.append(identity.to(matrices[-1]))
    sizes = (int(matrices[0].shape[0]), *(int(w.shape[1]) for w in matrices))
    made = DenseNet(sizes, tuple(acts))
    for i, w in enumerate(matrices):
        made.weights[i] = torch.nn.Parameter(w)
    return made
