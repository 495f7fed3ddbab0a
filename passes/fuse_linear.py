"""fuse-linear: one matrix product per irrep, with every factor in the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from torch import fx, nn

    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class FuseLinear(Pass):
    """Replaces e3nn's linear maps and radial networks by plain matrix products.

    Normalisations, the factors of activations, and constant factors before and after a map go into
    the weights; paths between the same irreps become one matrix. What cannot be fused stays and is
    named, with the reason, in the results.
    """

    name: ClassVar[str] = "fuse-linear"
    summary: ClassVar[str] = "linear maps and radial networks as plain matrix products"
    trait: ClassVar[str] = "exact-with-fold"
    refuses: ClassVar[tuple[str, ...]] = ("masks",)
    provides: ClassVar[tuple[str, ...]] = ("lowered",)
    invalidates: ClassVar[tuple[str, ...]] = ("scores",)
    by_node: ClassVar[bool] = True

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with fused maps; ``context.results["fuse-linear"]`` says what stayed."""
        from e3nn import nn as enn
        from e3nn import o3

        from irprune.errors import IrpruneError
        from irprune.rewriting import Rewriting, path_like

        edit, stayed = Rewriting(graph, context), {}
        paths: dict[tuple[str, float, float], str] = {}
        taken: set[str] = set()
        for name, site in graph.sites.items():
            m = site.module
            if not isinstance(m, (o3.Linear, enn.FullyConnectedNet)) or len(site.operands) != 1:
                continue
            source, last, before, after = site.operands[0], site.node, 1.0, 1.0
            if isinstance(m, o3.Linear):
                source, before = _scales_before(graph, source, taken)
                last, after = _scales_after(graph, last, taken)
            node, key = edit.node(last), (str(site.node.target), before, after)
            if key not in paths:
                try:
                    made = (
                        block_linear(m, before, after) if isinstance(m, o3.Linear) else dense_net(m)
                    )
                except IrpruneError as error:
                    stayed[name] = str(error)
                    continue
                paths[key] = edit.add(f"{path_like(site.node)}_fused", made)
            with edit.gm.graph.inserting_before(node):
                edit.replace(node, edit.gm.graph.call_module(paths[key], (edit.node(source),)))
        context.results[self.name] = stayed
        return edit.done()


def _scale(graph: EquivariantGraph, node: fx.Node) -> tuple[fx.Node, float] | None:
    """What a node multiplies or divides by a constant, and the factor; None for other nodes."""
    import operator

    import torch
    from torch import fx

    from irprune.irreps import IrrepsType
    from irprune.ops.base import op_of_node

    op = op_of_node(node, None) if node.op in ("call_function", "call_method") else None
    if op is None or op.name != "mul" or len(node.args) != 2 or node.kwargs:
        return None
    numbers: list[float] = []
    values: list[fx.Node] = []
    for a in node.args:
        if isinstance(a, (int, float)):
            numbers.append(float(a))
        elif isinstance(a, fx.Node) and a.op == "get_attr":
            constant: Any = graph.gm
            for part in str(a.target).split("."):
                constant = getattr(constant, part)
            if constant.numel() != 1:
                return None
            numbers.append(float(constant.double()))
        elif isinstance(a, fx.Node) and isinstance(graph.sites[a.name].out, IrrepsType):
            values.append(a)
    divides = node.target in (operator.truediv, torch.div, "div")
    if len(numbers) != 1 or len(values) != 1 or (divides and values[0] is not node.args[0]):
        return None
    return values[0], 1.0 / numbers[0] if divides else numbers[0]


def _scales_before(
    graph: EquivariantGraph, node: fx.Node, taken: set[str]
) -> tuple[fx.Node, float]:
    """What comes before the constant factors that lead to a node, and their product.

    Factors in ``taken`` are in the weights of another map.
    """
    factor = 1.0
    while len(node.users) == 1 and (found := _scale(graph, node)) is not None:
        if node.name in taken:
            break
        node, factor = found[0], factor * found[1]
    return node, factor


def _scales_after(graph: EquivariantGraph, node: fx.Node, taken: set[str]) -> tuple[fx.Node, float]:
    """The last of the constant factors that follow a node, and their product; they are taken."""
    factor = 1.0
    while len(node.users) == 1:
        following = next(iter(node.users))
        found = _scale(graph, following)
        if found is None:
            break
        node, factor = following, factor * found[1]
        taken.add(node.name)
    return node, factor


def block_linear(m: Any, before: float = 1.0, after: float = 1.0) -> nn.Module:
    """An ``o3.Linear`` as one matrix per irrep, of ``before`` times its input, times ``after``.

    Raises:
        LegalityError: segments of one irrep do not lie side by side.
    """
    import torch

    from irprune.errors import LegalityError
    from irprune.layers.dense import BlockLinear
    from irprune.ops.linear import Linear

    weights, biases, _ = Linear.views(m)
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
                block += w.double() * (i.path_weight * before * after)
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
            bias[m.irreps_out.slices()[i]] = value * after
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
