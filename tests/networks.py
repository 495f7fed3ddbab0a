"""Random networks of e3nn layers, for property tests: every connection mode, gates, residuals."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn

from irprune.functional import scatter_sum

INPUTS = {
    "x": "3x0e+2x1o",
    "edge_attr": "1x0e+1x1o+1x2e",
    "edge_len": "4x0e",
    "edge_src": "index",
    "edge_dst": "index",
}
KINDS = (
    "linear", "bias", "residual", "uvu", "uvu-merged", "uvv", "uvw", "uuu", "uuw", "uvuv", "uvu<v",
    "u<vw", "fctp", "gate", "activation", "concat", "columns", "radial-internal",
)  # fmt: skip
PAIRED = ("uuu", "uuw", "uvu<v", "u<vw")
IRREPS = ("4x0e+2x1o", "3x0e+2x1o+2x1e", "2x0e+3x1o+1x2e", "5x0e+1x0o+2x1o")


def instructions(
    mode: str, a: o3.Irreps, b: o3.Irreps, merged: bool
) -> tuple[o3.Irreps, list[tuple[int, int, int, str, bool]]]:
    """All paths up to l = 2 in one mode, each into its own output, or merged by irrep."""
    out: list[tuple[int, o3.Irrep]] = []
    paths = []
    for (i, (m1, ir1)), (j, (m2, ir2)) in itertools.product(enumerate(a), enumerate(b)):
        for ir in ir1 * ir2:
            if ir.l > 2 or (mode in PAIRED and i != j):
                continue
            half = m1 * (m1 - 1) // 2
            mul = {
                "uvu": m1, "uvv": m2, "uvw": 3, "uuu": m1, "uuw": 3, "uvuv": m1 * m2,
                "uvu<v": half, "u<vw": 3,
            }[mode]  # fmt: skip
            if mul == 0 or (mode in ("uvu<v", "u<vw") and half == 0):
                continue
            same = [k for k, entry in enumerate(out) if entry == (mul, ir)]
            if merged and same:
                k = same[0]
            else:
                k = len(out)
                out.append((mul, ir))
            paths.append((i, j, k, mode, True))
    return o3.Irreps(out), paths


class Convolution(nn.Module):
    """Gather, tensor product in one mode, scatter; weights from a radial network or internal."""

    def __init__(self, irreps: o3.Irreps, mode: str, internal: bool, merged: bool) -> None:
        super().__init__()
        self.paired = mode in PAIRED
        second = irreps if self.paired else o3.Irreps("2x0e+1x1o")
        self.second = o3.Linear(irreps if self.paired else "1x0e+1x1o+1x2e", second)
        out, paths = instructions(mode, irreps, second, merged)
        self.tp = o3.TensorProduct(
            irreps, second, out, paths, shared_weights=internal, internal_weights=internal
        )
        self.radial = (
            None if internal else enn.FullyConnectedNet([4, 6, self.tp.weight_numel], torch.tanh)
        )
        self.irreps_out = self.tp.irreps_out

    def forward(self, x, edge_attr, edge_len, edge_src, edge_dst):
        second = self.second(x)[edge_dst] if self.paired else self.second(edge_attr)
        if self.radial is None:
            message = self.tp(x[edge_src], second)
        else:
            message = self.tp(x[edge_src], second, self.radial(edge_len))
        return scatter_sum(message, edge_dst, dim=0, dim_size=x.shape[0])


class Pieces(nn.Module):
    """Concatenation with a linear image, or the columns of the leading segment."""

    def __init__(self, irreps: o3.Irreps, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.cut = o3.Irreps([irreps[0]]).dim
        self.linear = o3.Linear(irreps, irreps)
        self.irreps_out = irreps + irreps if kind == "concat" else irreps + o3.Irreps([irreps[0]])

    def forward(self, x):
        y = self.linear(x)
        return torch.cat([x, y if self.kind == "concat" else y[:, : self.cut]], dim=-1)


class Gated(nn.Module):
    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.gate = enn.Gate(
            "3x0e+1x0o", [torch.nn.functional.silu, torch.tanh], "3x0e", [torch.sigmoid],
            "2x1o+1x1e",
        )  # fmt: skip
        self.linear = o3.Linear(irreps, self.gate.irreps_in)
        self.irreps_out = self.gate.irreps_out

    def forward(self, x):
        return self.gate(self.linear(x))


class Activated(nn.Module):
    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.act = enn.Activation("3x0e+2x0e+2x1o", [torch.tanh, torch.sigmoid, None])
        self.linear = o3.Linear(irreps, self.act.irreps_in)
        self.irreps_out = self.act.irreps_out

    def forward(self, x):
        return self.act(self.linear(x))


class RandomNet(nn.Module):
    """A chain of layers by kind; ends in scalars and vectors."""

    def __init__(self, kinds: tuple[str, ...], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        irreps = o3.Irreps(INPUTS["x"])
        self.kinds = kinds
        layers: list[nn.Module] = []
        for n, kind in enumerate(kinds):
            target = o3.Irreps(IRREPS[(seed + n) % len(IRREPS)])
            if kind in ("linear", "bias"):
                layers.append(o3.Linear(irreps, target, biases=kind == "bias"))
                if kind == "bias":
                    nn.init.normal_(layers[-1].bias)
                irreps = target
            elif kind == "residual":
                layers.append(o3.Linear(irreps, irreps))
            elif kind == "fctp":
                layers.append(
                    nn.ModuleList(
                        [
                            o3.Linear(irreps, "2x0e+1x1o"),
                            o3.FullyConnectedTensorProduct(irreps, "2x0e+1x1o", target),
                        ]
                    )
                )
                irreps = target
            elif kind in ("concat", "columns", "gate", "activation"):
                made = {"gate": Gated, "activation": Activated}.get(kind)
                layers.append(made(irreps) if made else Pieces(irreps, kind))
                irreps = layers[-1].irreps_out
            else:
                mode = {"uvu-merged": "uvu", "radial-internal": "uvu"}.get(kind, kind)
                irreps = irreps.sort().irreps.simplify()
                layers.append(o3.Linear(layers_out(layers), irreps))
                conv = Convolution(
                    irreps, mode, kind in ("uvw", "uuw", "radial-internal"), kind == "uvu-merged"
                )
                layers.append(conv)
                irreps = target
                layers.append(o3.Linear(conv.irreps_out, irreps))
        self.layers = nn.ModuleList(layers)
        self.last = o3.Linear(irreps, "1x0e+1x1o")

    def forward(self, x, edge_attr, edge_len, edge_src, edge_dst):
        edges = (edge_attr, edge_len, edge_src, edge_dst)
        for layer in self.layers:
            if isinstance(layer, Convolution):
                x = layer(x, *edges)
            elif isinstance(layer, nn.ModuleList):
                x = layer[1](x, layer[0](x))
            elif isinstance(layer, o3.Linear) and layer.irreps_in == layer.irreps_out:
                x = x + layer(x)
            else:
                x = layer(x)
        return self.last(x)


def layers_out(layers: list[nn.Module]) -> o3.Irreps:
    """Irreps that the layers so far end in."""
    if not layers:
        return o3.Irreps(INPUTS["x"])
    last = layers[-1]
    return last[1].irreps_out if isinstance(last, nn.ModuleList) else last.irreps_out


def random_mask(graph, seed, share):
    """Removes a share of the groups of all axes."""
    rng = np.random.default_rng(seed)
    groups = np.array([c for a in graph.axes() for c in a.groups], np.int64)
    removed = np.zeros(graph.blocks.n_classes, bool)
    removed[groups[rng.random(len(groups)) < share]] = True
    return graph.blocks.without(removed)
