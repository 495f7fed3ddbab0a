"""A convolution that makes its own weights: w[e] = hidden[row of e] @ matrix, never stored.

A program is a node and a block of channels, as in ``irprune.kernels.triton.convolution``; but it takes
its edges a tile at a time, because a product of matrices wants rows. It is a study and no backend:
values only, rows in ``ir_mul``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from irprune.edges import unpack
from irprune.errors import UsageError
from irprune.kernels.triton import convolution, launch
from irprune.kernels.triton.config import Config
from irprune.kernels.triton.convolution import Group, Path
from irprune.kernels.triton.source import Source, Text, compiled_text
from irprune.specs.path import PathSpec


@dataclass(frozen=True)
class Tile:
    """How a program is laid out."""

    edges: int
    """That are taken at once."""
    block: int
    """Channels."""
    warps: int
    precision: str
    """Of the product of matrices: ``ieee`` is float32; ``tf32`` rounds both factors to 11 bits;
    ``tf32x3`` adds two products of what is rounded off."""

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())

    @classmethod
    def parse(cls, text: str) -> Tile:
        """The inverse of ``str``."""
        given = dict(part.split("=") for part in text.split(","))
        return cls(
            int(given["edges"]), int(given["block"]), int(given["warps"]), given["precision"]
        )


def tiles(mul: int, precision: str) -> tuple[Tile, ...]:
    """Layouts to try for segments of so many channels; a product of matrices wants 16 rows at least."""
    return tuple(
        Tile(edges, block, warps, precision)
        for edges in (16, 32)
        for block in ((16, 32) if mul > 16 else (16,))
        for warps in (1, 2, 4)
    )


def segments(spec: PathSpec) -> tuple[Group, ...]:
    """A kernel for the paths that share features: these are read once."""
    return convolution.groups(spec)


def paths(spec: PathSpec) -> tuple[Group, ...]:
    """A kernel for every path: it needs fewer registers.

    Raises:
        UsageError: two paths share a result, which each kernel would write as if it were alone.
    """
    found = tuple(Group(g.mul, (p,)) for g in convolution.groups(spec) for p in g.paths)
    targets = [p.target for g in found for p in g.paths]
    if len(set(targets)) < len(targets):
        raise UsageError(f"paths of {spec.key} share results: one kernel for each cannot add them")
    return found


DIVISIONS: dict[str, Callable[[PathSpec], tuple[Group, ...]]] = {
    "segments": segments,
    "paths": paths,
}


def source(spec: PathSpec, group: Group, hidden: int, tile: Tile) -> Source:
    """The kernel of some paths; operands are float32."""
    made = _text("fused", group, spec, hidden, tile)
    return compiled_text(made, Config(tile.block, tile.warps, 1, "csr"), torch.float32)


def fused(
    x: Tensor,
    y: Tensor,
    hidden: Tensor,
    matrix: Tensor,
    edges: Tensor,
    spec: PathSpec,
    kernels: Sequence[tuple[Group, Tile]],
) -> Tensor:
    """The convolution of weights hidden @ matrix.

    Args:
        x: features [N, in1], in ``ir_mul``.
        y: harmonics [E, in2].
        hidden: what goes into the last radial layer [rows, H].
        matrix: its weights [H, weights].
        edges: ``pack``ed.
        spec: the convolution.
        kernels: all of its paths, and how their programs are laid out.

    Returns:
        [N, out], in ``ir_mul``.
    """
    lists = unpack(edges, x.shape[0])
    indices = (lists.by_receiver, lists.receiver_ends, lists.sender, lists.row)
    target = x.new_zeros(x.shape[0], spec.dims[2])
    for group, tile in kernels:
        kernel = source(spec, group, hidden.shape[1], tile)
        launch.start(kernel, "tile", x.shape[0], x, y, hidden, matrix, target, *indices)
    return target


def _text(name: str, group: Group, spec: PathSpec, hidden: int, tile: Tile) -> Text:
    features, harmonics, results = spec.dims
    inside = f"(u < {group.mul})[None, :]"
    read = sorted({b for p in group.paths for b in p.harmonics()})
    body = [
        "node = tl.program_id(0).to(tl.int64)",
        "u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        f"k = tl.arange(0, {hidden})",
        *(f"a{at} = tl.zeros([BLOCK], tl.float32)" for at in group.targets()),
        "first = tl.load(ends + node)",
        "last = tl.load(ends + node + 1)",
        f"for start in tl.range(first, last, {tile.edges}):",
        f"    place = start + tl.arange(0, {tile.edges})",
        "    live = place < last",
        "    edge = tl.load(order + place, mask=live, other=0)",
        "    read = tl.load(other + edge, mask=live, other=0)",
        "    line = tl.load(row + edge, mask=live, other=0)",
        f"    at = hidden + line[:, None] * {hidden} + k[None, :]",
        "    given = tl.load(at, mask=live[:, None], other=0.0)",
        f"    s = source + read[:, None] * {features} + u[None, :]",
        f"    both = live[:, None] & {inside}",
        f"    h = harmonics + edge * {harmonics}",
        *(f"    y{b} = tl.load(h + {b}, mask=live, other=0.0)[:, None]" for b in read),
        *(f"    {line}" for line in _products(group, spec.n_weights, inside, tile.precision)),
        f"t = target + node * {results} + u",
        *(f"tl.store(t + {at}, a{at}, mask=u < {group.mul})" for at in group.targets()),
    ]
    operands = ("source", "harmonics", "hidden", "matrix", "target")
    lists = ("order", "ends", "other", "row")
    parameters = (*((n, "operand") for n in operands), *((n, "index") for n in lists))
    return Text(name, parameters, tuple(body), -(-group.mul // tile.block))


def _products(group: Group, weights: int, inside: str, precision: str) -> Iterator[str]:
    for segment in sorted({p.source for p in group.paths}):
        mine = [p for p in group.paths if p.source == segment]
        for m in range(mine[0].n_source):
            yield f"x{m} = tl.load(s + {segment + m * group.mul}, mask=both, other=0.0)"
        for p in mine:
            yield f"m = matrix + k[:, None] * {weights} + {p.weight} + u[None, :]"
            yield f"m = tl.load(m, mask={inside}, other=0.0)"
            yield f'w = tl.dot(given, m, input_precision="{precision}")'
            yield from _path(p, group.mul)


def _path(p: Path, mul: int) -> Iterator[str]:
    matrix = p.matrix()
    for c in sorted({c for _, c in matrix}):
        total = " + ".join(f"x{a} * ({z})" for (a, k), z in matrix.items() if k == c)
        yield f"a{p.target + c * mul} += tl.sum(w * ({total}), 0)"
