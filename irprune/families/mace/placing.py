"""Weights of a sliced graph, put into a model that mace builds.

Both are graphs of the same nodes. Where a module is the same on both sides its tensors are copied.
Where the native class holds blocks that are dead in it (a message order that a contraction of
correlation order 1 cannot read), the slice of the native module is what the sliced graph has: running
that slice on numbered weights shows where each weight belongs, and the rest is zero.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor, nn

from irprune.dead import eliminate_dead
from irprune.errors import ExactnessError, LegalityError
from irprune.families.mace import contraction
from irprune.families.mace.structure import module_path
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType
from irprune.ops.base import Keep, Site, op_of_node

State = dict[str, Tensor]


def keep_of_native(graph: EquivariantGraph, native: EquivariantGraph) -> Mapping[str, Keep]:
    """Which units of the native model the sliced graph has, for every node.

    Raises:
        LegalityError: the graph has other sizes than the class; names the first value that differs.
    """
    if list(graph.sites) != list(native.sites):
        raise LegalityError(
            "native:mace: the graph has other operations than a MACE model (was it rewritten?); use"
            " target graph"
        )
    space = native.blocks
    everything = np.ones(space.n_classes, bool)
    wrong = _mismatch(graph, native, everything)
    mask = everything
    if wrong is not None:
        mask = eliminate_dead(native, everything)
        if _mismatch(graph, native, mask) is not None:
            name = wrong
            raise LegalityError(
                f"native:mace cannot express this structure: {module_path(graph, name)} has"
                f" {graph.type_of(name)}, where the class would have {native.type_of(name)} (one"
                " channel count over all orders and layers, all paths between kept orders); use"
                " target surgery or graph"
            )
    elements = space.elements(mask)
    return {name: space.keep_at(site, elements) for name, site in native.sites.items()}


def _mismatch(graph: EquivariantGraph, native: EquivariantGraph, mask: Any) -> str | None:
    """The first node whose types differ when ``native`` keeps the classes of ``mask``."""
    space = native.blocks
    elements = space.elements(mask)
    worst: str | None = None
    for name, site in native.sites.items():
        if not isinstance(site.out, IrrepsType) or site.node.op == "output":
            continue
        kept = space.keep_at(site, elements).out
        got = graph.type_of(name)
        want = site.out if kept is None else site.out.kept(kept)
        if not isinstance(got, IrrepsType) or not got.same_units(want):
            if site.node.op == "call_module":
                return name
            worst = worst or name
    return worst


def placed_state(
    graph: EquivariantGraph, native: EquivariantGraph, keeps: Mapping[str, Keep]
) -> State:
    """The state of the native model (names as in the MACE module), from the graph's modules."""
    state: State = {}
    for name, site in native.sites.items():
        if site.node.op != "call_module" or not str(site.node.target).startswith("model."):
            continue
        small = graph.sites[name].module
        assert small is not None and site.module is not None
        found = _place(site, small, keeps[name])
        state.update({f"{module_path(native, name)}.{k}": v for k, v in found.items()})
    return state


def _place(site: Site, small: nn.Module, keep: Keep) -> State:
    native = site.module
    assert native is not None
    if type(native).__name__ == "SymmetricContraction":
        return _place_contraction(site, small, keep)
    op = op_of_node(site.node, native)
    assert op is not None
    own = {k: v.detach() for k, v in small.state_dict().items()}
    if op.spec(native) == op.spec(small):
        return own
    if isinstance(native, o3.Linear) and isinstance(small, o3.Linear):
        resplit = _same_linear(native, small, own)
        if resplit is not None:
            return resplit
    if all(m is None or m.all() for m in (*keep.operands, keep.out, *keep.axes.values())):
        raise ExactnessError(
            f"{site.where} is normalised differently in the graph and in the class of mace:"
            f" {op.spec(small)} and {op.spec(native)}"
        )
    return _place_by_numbers(site, own, keep)


def _same_linear(native: o3.Linear, small: o3.Linear, own: State) -> State | None:
    """State of ``native`` where it is ``small`` with its segments split otherwise; else None.

    Older versions of mace built ``128x0e`` where newer ones build ``64x0e+64x0e``.
    """
    index, scale = _entries(native)
    own_index, own_scale = _entries(small)
    if index.shape != own_index.shape or not np.array_equal(index < 0, own_index < 0):
        return None
    if native.bias_numel or small.bias_numel:
        return None
    pairs = index >= 0
    weight = own["weight"].double().cpu()[torch.from_numpy(own_index[pairs])]
    value = torch.zeros(native.weight_numel, dtype=torch.float64)
    value[torch.from_numpy(index[pairs])] = weight * torch.from_numpy(
        own_scale[pairs] / scale[pairs]
    )
    return {**own, "weight": value.to(own["weight"].dtype)}


def _entries(m: o3.Linear) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Position in the flat weights (−1: none) and path weight, per input and output unit."""
    rows = np.cumsum([0, *(mul for mul, _ in m.irreps_in)])
    cols = np.cumsum([0, *(mul for mul, _ in m.irreps_out)])
    index = np.full((rows[-1], cols[-1]), -1, np.int64)
    scale = np.ones((rows[-1], cols[-1]))
    offset = 0
    for ins in m.instructions:
        if ins.i_in == -1:
            continue
        a, b = (slice(e[i], e[i + 1]) for e, i in ((rows, ins.i_in), (cols, ins.i_out)))
        n = int(np.prod(ins.path_shape))
        index[a, b] = np.arange(offset, offset + n).reshape(ins.path_shape)
        scale[a, b] = ins.path_weight
        offset += n
    return index, scale


def _place_by_numbers(site: Site, own: State, keep: Keep) -> State:
    """Inverts the slice of the native module, whose every weight is one weight times a factor."""
    op = op_of_node(site.node, site.module)
    assert op is not None and site.module is not None
    ones, numbers = (_sliced_numbers(site, op, keep, numbered) for numbered in (False, True))
    state: State = {}
    for name, p in site.module.named_parameters():
        value = torch.zeros(p.numel(), dtype=p.dtype)
        factor = ones[name].reshape(-1)
        index = (numbers[name].reshape(-1) / factor).round().long() - 1
        value[index] = (own[name].double().cpu().reshape(-1) / factor).to(p.dtype)
        state[name] = value.reshape(p.shape)
    for name, buffer in site.module.named_buffers():
        same = name in own and own[name].shape == buffer.shape
        state[name] = own[name] if same else buffer.detach()
    return state


def _sliced_numbers(site: Site, op: Any, keep: Keep, numbered: bool) -> State:
    module = copy.deepcopy(site.module).double()  # type: ignore[union-attr]
    with torch.no_grad():
        for p in module.parameters():
            numbers = torch.arange(1, p.numel() + 1, dtype=p.dtype).reshape(p.shape)
            p.copy_(numbers if numbered else torch.ones_like(p))
    probe = Site(site.node, module, site.operands, site.types, site.out)
    return {k: v.detach() for k, v in op.slice(probe, keep).named_parameters()}


def _place_contraction(site: Site, small: nn.Module, keep: Keep) -> State:
    """Tensors of the sliced contraction, in the basis that the class has."""
    native: Any = site.module
    n_orders = len(site.irreps(0).segments)
    orders = keep.operand(0).reshape(n_orders, -1)
    rows, channels = np.asarray(orders.any(axis=1)), np.asarray(orders.any(axis=0))
    components = np.repeat(rows, [s.dim for s in site.irreps(0)])
    elements = keep.operand(1)
    mine = dict(zip((str(ir) for _, ir in small.irreps_out), contraction.read(small), strict=True))  # type: ignore[union-attr]
    state: State = {k: v.detach() for k, v in native.state_dict().items()}
    for i, full in enumerate(contraction.read(native)):
        if full.ir not in mine:
            lifted = contraction.without_weights(full)
        else:
            lifted = contraction.lift(
                full, mine[full.ir], components, channels, elements, site.where
            )
        state.update({f"contractions.{i}.{k}": v for k, v in contraction.state_of(lifted).items()})
    return state
