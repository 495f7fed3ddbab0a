"""Where the numbers of a small graph go in sevenn's own layers.

Units are matched by what they are (irrep, input unit, edge order, tensor-product path), never by
their position in a flat vector. A *unit map* is an int array over native units: the graph's unit,
or −1 for a unit that only the native class holds; such units get zero weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from e3nn import nn as enn
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor

from irprune.errors import ExactnessError, LegalityError
from irprune.irreps import Segment
from irprune.ops.gate import GateMap
from irprune.ops.tensor_product import paths_of

UnitMap = NDArray[np.int64]
Pair = tuple[Any, Any]
"""The same layer in sevenn's model and in the graph."""


def identity(n: int) -> UnitMap:
    """Native and graph have the same units."""
    return np.arange(n, dtype=np.int64)


def padded_map(native: Sequence[Segment], own: Sequence[Segment]) -> UnitMap:
    """Units of ``native``, which has more 0e in one segment (or one segment of 0e more)."""
    out: list[int] = []
    rest = list(own)
    start = 0
    for s in native:
        mine = rest[0] if rest and (rest[0].l, rest[0].p) == (s.l, s.p) else None
        n = rest.pop(0).mul if mine is not None else 0
        out += [*range(start, start + n), *[-1] * (s.mul - n)]
        start += n
    if rest:
        raise ExactnessError(f"no place for {'+'.join(map(str, rest))} in {list(map(str, native))}")
    return np.array(out, np.int64)


def by_irrep(native: o3.Irreps, own: o3.Irreps) -> UnitMap:
    """The n-th copy of an irrep in ``own`` for the n-th copy in ``native``."""
    places: dict[str, list[int]] = {}
    for i, ir in enumerate(_irs(own)):
        places.setdefault(ir, []).append(i)
    queues = {ir: iter(found) for ir, found in places.items()}
    out = [next(queues.get(ir, iter(())), -1) for ir in _irs(native)]
    return np.array(out, np.int64)


def _irs(irreps: o3.Irreps) -> list[str]:
    return [str(ir) for mul, ir in irreps for _ in range(mul)]


def gate_input_map(native: GateMap, own: GateMap, out: UnitMap) -> UnitMap:
    """From the map of a gate's result to the map of its input: scalars, gates and gated units."""
    result = np.full(native.n_in, -1, np.int64)
    for i, j in enumerate(out):
        if j < 0:
            continue
        if i < len(native.scalars):
            result[native.scalars[i]] = own.scalars[j]
        else:
            a, b = i - len(native.scalars), j - len(own.scalars)
            result[native.gated[a]] = own.gated[b]
            result[native.gates[a]] = own.gates[b]
    return result


@dataclass(frozen=True)
class Block:
    """One path of a linear map or of a fully connected tensor product with scalars."""

    rows: slice
    cols: slice
    weight: Tensor
    """[rows, v, cols]; v are the scalars of the second factor, 1 for a linear map."""
    coefficient: float


def _slices(irreps: o3.Irreps) -> list[slice]:
    ends = np.cumsum([0, *(mul for mul, _ in irreps)]).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def blocks_of(module: Any, weight: Tensor) -> list[Block]:
    """The paths of an ``o3.Linear`` or ``FullyConnectedTensorProduct``, with views of ``weight``.

    Raises:
        LegalityError: another module, or a path of another mode.
    """
    out = []
    if isinstance(module, o3.Linear):
        rows, cols = _slices(module.irreps_in), _slices(module.irreps_out)
        offset = 0
        for ins in module.instructions:
            if ins.i_in == -1:
                continue
            a, b = ins.path_shape
            view = weight[offset : offset + a * b].view(a, 1, b)
            out.append(Block(rows[ins.i_in], cols[ins.i_out], view, float(ins.path_weight)))
            offset += a * b
        return out
    if isinstance(module, o3.TensorProduct) and len(module.irreps_in2) == 1:
        rows, cols = _slices(module.irreps_in1), _slices(module.irreps_out)
        for p in paths_of(module):
            if p.mode != "uvw" or not p.weighted:
                raise LegalityError(f"native:sevennet has no self connection with paths {p.mode}")
            view = weight[p.weights].view(p.shape)
            out.append(Block(rows[p.i1], cols[p.out], view, p.coefficient))
        return out
    raise LegalityError(f"native:sevennet has no {type(module).__name__} in this place")


def _bias_blocks(module: Any, bias: Tensor) -> list[tuple[slice, Tensor]]:
    if not isinstance(module, o3.Linear):
        return []
    cols, out, offset = _slices(module.irreps_out), [], 0
    for ins in module.instructions:
        if ins.i_in == -1:
            n = int(np.prod(ins.path_shape))
            out.append((cols[ins.i_out], bias[offset : offset + n]))
            offset += n
    return out


def place_linear(pair: Pair, rows: UnitMap, cols: UnitMap) -> dict[str, Tensor]:
    """Weight and bias with which the native module computes what the graph's does.

    Args:
        pair: (native, own) modules.
        rows: map of the input units.
        cols: map of the result's units.

    Raises:
        ExactnessError: a path of ``own`` has no place in ``native``.
    """
    native, own = pair
    weight = torch.zeros(native.weight.shape, dtype=torch.float64)
    mine = blocks_of(own, own.weight.detach().double().cpu())
    placed = [0] * len(mine)
    for target in blocks_of(native, weight):
        here_rows, here_cols = rows[target.rows], cols[target.cols]
        for i, block in enumerate(mine):
            at_rows, from_rows = _within(here_rows, block.rows)
            at_cols, from_cols = _within(here_cols, block.cols)
            if len(at_rows) and len(at_cols):
                part = block.weight[from_rows][:, :, from_cols]
                scaled = part * (block.coefficient / target.coefficient)
                target.weight[at_rows[:, None], :, at_cols[None, :]] = scaled.transpose(1, 2)
                placed[i] += part.numel()
    _all_placed(native, (b.weight.numel() for b in mine), placed)
    state = {"weight": weight}
    if getattr(native, "bias_numel", 0):
        state["bias"] = _place_bias(native, own, cols)
    elif getattr(own, "bias_numel", 0):
        raise ExactnessError(f"{own} has a bias, {native} has none")
    return state


def _place_bias(native: Any, own: Any, cols: UnitMap) -> Tensor:
    bias = torch.zeros(native.bias.shape, dtype=torch.float64)
    mine = _bias_blocks(own, own.bias.detach().double().cpu())
    placed = [0] * len(mine)
    for units, view in _bias_blocks(native, bias):
        for i, (own_units, values) in enumerate(mine):
            at, source = _within(cols[units], own_units)
            view[at] = values[source]
            placed[i] += len(at)
    _all_placed(native, (len(v) for _, v in mine), placed)
    return bias


def _within(units: UnitMap, span: slice) -> tuple[Tensor, Tensor]:
    """Positions whose unit lies in the span, and where in the span."""
    at = np.flatnonzero((units >= span.start) & (units < span.stop))
    return torch.from_numpy(at), torch.from_numpy(units[at] - span.start)


def _all_placed(native: Any, sizes: Iterable[int], placed: Sequence[int]) -> None:
    for size, done in zip(sizes, placed, strict=True):
        if size != done:
            raise ExactnessError(f"only {done} of {size} weights have a place in {native}")


@dataclass(frozen=True)
class Messages:
    """How the paths of a convolution correspond."""

    units: UnitMap
    """Units of the messages."""
    columns: UnitMap
    """Path weights: columns of the last layer of the radial network."""
    scale: Tensor
    """[native columns]: own over native coefficient of the path, 0 where native holds it alone."""


def match_messages(native: Any, own: Any, features: UnitMap) -> Messages:
    """Matches ``uvu`` paths by (input unit, edge order, result irrep).

    Args:
        native: sevenn's tensor product.
        own: the graph's.
        features: map of the units of the first factor.

    Raises:
        ExactnessError: a path of ``own`` has no place in ``native``.
        LegalityError: paths that sevenn's convolution does not have.
    """
    found: dict[tuple[int, str, str], tuple[int, int, float]] = {}
    for key, unit, column, coefficient in _message_units(own):
        if key in found:
            raise LegalityError(f"native:sevennet has no two paths {key[1]} -> {key[2]} of a unit")
        found[key] = (unit, column, coefficient)
    units = np.full(native.irreps_out.num_irreps, -1, np.int64)
    columns = np.full(native.weight_numel, -1, np.int64)
    scale = torch.zeros(native.weight_numel, dtype=torch.float64)
    for (feature, edge, result), unit, column, coefficient in _message_units(native):
        hit = found.pop((int(features[feature]), edge, result), None)
        if hit is not None:
            units[unit], columns[column] = hit[0], hit[1]
            scale[column] = hit[2] / coefficient
    if found:
        _, edge, result = next(iter(found))
        raise ExactnessError(
            f"{len(found)} path weights have no place in the native convolution, such as those of"
            f" {edge} -> {result}"
        )
    return Messages(units, columns, scale)


def _message_units(m: Any) -> Iterable[tuple[tuple[int, str, str], int, int, float]]:
    """(key, message unit, weight column, coefficient) of every weight of a ``uvu`` product."""
    if not isinstance(m, o3.TensorProduct):
        raise LegalityError(
            f"native:sevennet convolves with a TensorProduct, not {type(m).__name__}"
        )
    features, results = _slices(m.irreps_in1), _slices(m.irreps_out)
    for p in paths_of(m):
        if p.mode != "uvu" or not p.weighted or m.irreps_in2[p.i2].mul != 1:
            raise LegalityError(
                "native:sevennet has weighted uvu paths and one edge feature per order, not"
                f" {p.mode} paths with {m.irreps_in2[p.i2]}"
            )
        edge, result = str(m.irreps_in2[p.i2].ir), str(m.irreps_out[p.out].ir)
        for u in range(m.irreps_in1[p.i1].mul):
            key = (features[p.i1].start + u, edge, result)
            yield key, results[p.out].start + u, p.weights.start + u, p.coefficient


def place_network(
    pair: Pair, rows: UnitMap | None = None, messages: Messages | None = None
) -> dict[str, Tensor]:
    """Weights of a ``FullyConnectedNet`` with the same hidden widths.

    Args:
        pair: (native, own) modules.
        rows: map of the inputs; identity by default.
        messages: what the outputs weight; identity by default.

    Raises:
        LegalityError: another module in this place.
    """
    native, own = pair
    if not isinstance(own, enn.FullyConnectedNet):
        raise LegalityError(f"native:sevennet has no {type(own).__name__} for a FullyConnectedNet")
    state = {}
    last = len(own.hs) - 2
    for i, (target, layer) in enumerate(zip(native, own, strict=True)):
        weight = layer.weight.detach().double().cpu()
        if i == 0 and rows is not None:
            weight = _take(weight, rows, 0)
        if i == last and messages is not None:
            weight = _take(weight, messages.columns, 1) * messages.scale
        # e3nn divides the weight by √h_in, and h_in counts dead inputs too.
        state[f"layer{i}.weight"] = weight * math.sqrt(target.h_in / layer.h_in)
    return state


def _take(weight: Tensor, index: UnitMap, axis: int) -> Tensor:
    """Rows or columns of ``weight`` at ``index``, zeros where it is −1."""
    found = weight.index_select(axis, torch.from_numpy(np.maximum(index, 0)))
    alive = torch.from_numpy(index >= 0).to(weight.dtype)
    return found * (alive[:, None] if axis == 0 else alive)
