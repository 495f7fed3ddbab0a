"""Networks as users write them: what stands between the layers of e3nn, in many spellings."""

from __future__ import annotations

import torch
from e3nn import nn as enn
from e3nn import o3
from torch import nn
from torch.nn import functional as F
from torch_geometric import utils as geometric

GRAPH = {"x": "3x0e+2x1o", "edge_attr": "1x0e+1x1o", "src": "index", "dst": "index"}
HIDDEN = o3.Irreps("4x0e+3x1o")


def scatter(messages, dst, n):
    """e3nn's own special case of torch_scatter.scatter."""
    out = messages.new_zeros(n, messages.shape[1])
    index = dst.reshape(-1, 1).expand_as(messages)
    return out.scatter_add_(0, index, messages)


class Piece(nn.Module):
    """Takes HIDDEN irreps of nodes, gives HIDDEN irreps back."""

    def forward(self, x, edge_attr, src, dst):
        raise NotImplementedError


class Message(Piece):
    """Tensor product on edges; subclasses sum the messages in their own way."""

    def __init__(self):
        super().__init__()
        self.tp = o3.FullyConnectedTensorProduct(HIDDEN, "1x0e+1x1o", HIDDEN)
        self.dim = HIDDEN.dim

    def collect(self, m, dst, x):
        return scatter(m, dst, x.shape[0])

    def forward(self, x, edge_attr, src, dst):
        return self.collect(self.tp(x[src], edge_attr), dst, x)


class IndexAddStatement(Message):
    def collect(self, m, dst, x):
        out = torch.zeros(x.shape[0], self.dim, dtype=x.dtype)
        out.index_add_(0, dst, m)
        return out


class IndexAddOntoFeatures(Message):
    def collect(self, m, dst, x):
        return x.index_add(0, dst, m)


class ScatterConstantWidth(Message):
    def collect(self, m, dst, x):
        wide = dst[:, None].expand(-1, self.dim)
        return torch.zeros((x.size(0), self.dim), dtype=x.dtype).scatter_add(0, wide, m)


class ScatterRepeat(Message):
    def collect(self, m, dst, x):
        wide = dst.unsqueeze(-1).repeat(1, self.dim)
        return x.new_zeros(x.shape[0], self.dim).scatter_reduce(
            0, wide, m, reduce="mean", include_self=False
        )


class WidthOfAnother(Message):
    """The target is as wide as another value, which must then be cut alike."""

    def __init__(self):
        super().__init__()
        self.other = o3.Linear(HIDDEN, HIDDEN)

    def collect(self, m, dst, x):
        y = self.other(x)
        return y + y.new_zeros(x.shape[0], y.shape[1]).index_add(0, dst, m)


class GeometricScatter(Message):
    def collect(self, m, dst, x):
        return geometric.scatter(m, dst, dim=0, dim_size=x.shape[0], reduce="mean")


class Attention(Message):
    """Scalar weights: a softmax over the edges of each node, written out."""

    def __init__(self):
        super().__init__()
        self.query, self.key = o3.Linear(HIDDEN, "5x0e"), o3.Linear("1x0e+1x1o", "5x0e")

    def forward(self, x, edge_attr, src, dst):
        logit = (self.query(x)[dst] * self.key(edge_attr)).sum(-1, keepdim=True)
        weight = torch.exp(logit)
        total = weight.new_zeros(x.shape[0], 1).index_add_(0, dst, weight)
        return self.collect(self.tp(x[src], edge_attr) * (weight / total[dst]), dst, x)


class Heads(Piece):
    """Attention weights for each head, by torch_geometric's softmax; heads are channels."""

    def __init__(self):
        super().__init__()
        self.logits, self.value = o3.Linear(HIDDEN, "6x0e"), o3.Linear(HIDDEN, "6x0e")
        self.back = o3.Linear("6x0e", HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        weight = geometric.softmax(self.logits(x)[src], dst, num_nodes=x.shape[0])
        return x + self.back(scatter(weight * self.value(x)[src], dst, x.shape[0]))


class Masks(Piece):
    """Constants per irrep, as buffers, and the gate of e3nn's gate_points networks."""

    def __init__(self):
        super().__init__()
        self.linear, self.alpha = o3.Linear(HIDDEN, HIDDEN), o3.Linear(HIDDEN, "1x0e")
        per_irrep = torch.tensor([1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.5])
        dims = torch.tensor([1, 1, 1, 1, 3, 3, 3])
        self.register_buffer("mask", per_irrep.repeat_interleave(dims))

    def forward(self, x, edge_attr, src, dst):
        m = self.mask
        return x * m + self.linear(x) * ((1 - m) + self.alpha(x) * m)


class Parameters(Piece):
    """Weights and biases of scalars, outside of any layer."""

    def __init__(self):
        super().__init__()
        self.up, self.down = o3.Linear(HIDDEN, "6x0e"), o3.Linear("6x0e", HIDDEN)
        self.scale, self.shift = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))

    def forward(self, x, edge_attr, src, dst):
        y = self.up(x)
        return self.down(torch.tanh(self.scale * y + self.shift) + y * self.scale)


class Norms(Piece):
    def __init__(self):
        super().__init__()
        self.norm, self.act = o3.Norm(HIDDEN), enn.NormActivation(HIDDEN, torch.sigmoid, bias=True)
        self.batch, self.drop = enn.BatchNorm(HIDDEN), enn.Dropout(HIDDEN, 0.5)
        self.mix = o3.Linear("7x0e", HIDDEN)
        nn.init.normal_(self.act.biases)
        for p in (*self.batch.parameters(), self.batch.running_mean):
            nn.init.normal_(p)
        nn.init.uniform_(self.batch.running_var, 0.5, 2.0)

    def forward(self, x, edge_attr, src, dst):
        return self.drop(self.batch(self.act(x))) + self.mix(self.norm(x))


class LayerNorms(Piece):
    def __init__(self):
        super().__init__()
        self.up, self.down = o3.Linear(HIDDEN, "6x0e"), o3.Linear("6x0e", HIDDEN)
        self.norm = nn.LayerNorm(6)
        self.net = nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(inplace=True), nn.Linear(6, 6))

    def forward(self, x, edge_attr, src, dst):
        y = F.dropout(self.norm(self.up(x)), 0.3, training=self.training)
        return self.down(F.softmax(self.net(y), dim=-1) + torch.relu_(y * 2.0))


class Shared(Piece):
    """One module called twice."""

    def __init__(self):
        super().__init__()
        self.linear = o3.Linear(HIDDEN, HIDDEN)
        self.gates = nn.ModuleList([enn.Identity(HIDDEN, HIDDEN) for _ in range(2)])

    def forward(self, x, edge_attr, src, dst):
        for gate in self.gates:
            x = gate(x + self.linear(x))
        return x


class Pieces(Piece):
    """Split, extract, concatenate, in another order."""

    def __init__(self):
        super().__init__()
        self.scalars = enn.ExtractIr(HIDDEN, "0e")
        self.both = enn.Extract(HIDDEN, ["4x0e", "3x1o"], [(0,), (1,)])
        self.back = o3.Linear("3x1o+4x0e+4x0e+3x1o+4x0e", HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        a, b = torch.split(x, [4, 9], dim=-1)
        c, d = self.both(x=x)
        return self.back(torch.cat([b, a, c, d, self.scalars(x)], dim=1))


class Plumbing(Piece):
    """Dicts and tuples between methods; a list of layers; a constant."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(
            {"a": o3.Linear(HIDDEN, HIDDEN), "b": o3.Linear(HIDDEN, "1x0e")}
        )
        self.factor = 0.25

    def pair(self, state):
        return state["x"], {"weight": self.layers["b"](state["x"]), **state}

    def forward(self, x, edge_attr, src, dst):
        before, state = self.pair({"x": x})
        state["x"] = self.layers["a"](state["x"]) * state.pop("weight")
        return before * self.factor + state["x"]


class UsesWidth(Piece):
    """Divides by the root of the width: the width must not change."""

    def __init__(self):
        super().__init__()
        self.linear, self.back = o3.Linear(HIDDEN, HIDDEN), o3.Linear(HIDDEN, HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        y = self.linear(x)
        return self.back(y / y.shape[-1] ** 0.5)


class ReadsWeights(Piece):
    """Uses the weights of a layer beside calling it."""

    def __init__(self):
        super().__init__()
        self.up, self.down = o3.Linear(HIDDEN, "6x0e"), o3.Linear("6x0e", HIDDEN)
        self.dense = nn.Linear(6, 6)

    def forward(self, x, edge_attr, src, dst):
        y = self.up(x)
        return self.down(self.dense(y) + F.linear(y, self.dense.weight))


class Thresholds(Piece):
    """Scalars multiplied by a boolean mask of others."""

    def __init__(self):
        super().__init__()
        self.up, self.gate = o3.Linear(HIDDEN, "6x0e"), o3.Linear(HIDDEN, "6x0e")
        self.down = o3.Linear("6x0e", HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        return self.down(self.up(x) * (self.gate(x) > 0))


class Opaque(nn.Module):
    """Depends on values: no tracer can follow."""

    def forward(self, x):
        return x * float(x.abs().max() > -1)


class Barrier(Piece):
    """A module without an op, between layers that have one."""

    def __init__(self):
        super().__init__()
        self.a, self.b = o3.Linear(HIDDEN, "5x0e+2x1o"), o3.Linear("5x0e+2x1o", HIDDEN)
        self.opaque = Opaque()

    def forward(self, x, edge_attr, src, dst):
        return x + self.b(self.opaque(self.a(x)))


class SharedBehindBarrier(Piece):
    """One layer before a value without a type and after it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 6)
        self.up, self.down = o3.Linear(HIDDEN, "6x0e"), o3.Linear("6x0e", HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        y = self.up(x)
        return self.down(self.net(y)) + self.down(self.net(torch.flip(y, (0,))))


class Unsound(Piece):
    """Changes in place what another name still sees."""

    def __init__(self):
        super().__init__()
        self.linear = o3.Linear(HIDDEN, HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        y = self.linear(x)
        z = y
        z += x
        return y + z


class UnsoundView(Piece):
    """Adds in place into a part of a value that is read as a whole afterwards."""

    def __init__(self):
        super().__init__()
        self.linear = o3.Linear(HIDDEN, HIDDEN)

    def forward(self, x, edge_attr, src, dst):
        y = self.linear(x)
        y[:, :4].mul_(2.0)
        return y


PIECES = (
    Message, IndexAddStatement, IndexAddOntoFeatures, ScatterConstantWidth, ScatterRepeat,
    WidthOfAnother, GeometricScatter, Attention, Heads, Masks, Parameters, Norms, LayerNorms, Shared,
    Pieces, Plumbing, UsesWidth, ReadsWeights, Thresholds, Barrier, SharedBehindBarrier, Unsound,
    UnsoundView,
)  # fmt: skip
BY_NAME = {piece.__name__: piece for piece in PIECES}


class UserNet(nn.Module):
    """Pieces between linear maps, with residuals."""

    def __init__(self, names, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = o3.Linear(GRAPH["x"], HIDDEN)
        self.pieces = nn.ModuleList([BY_NAME[name]() for name in names])
        self.mixes = nn.ModuleList([o3.Linear(HIDDEN, HIDDEN) for _ in names])
        self.last = o3.Linear(HIDDEN, "1x0e+1x1o")

    def forward(self, x, edge_attr, src, dst):
        x = self.first(x)
        for piece, mix in zip(self.pieces, self.mixes, strict=True):
            x = x + piece(mix(x), edge_attr, src, dst)
        return self.last(x)
