"""Slicing: the small graph that computes what the masked one does."""

from __future__ import annotations

import copy

import numpy as np
from torch import fx, nn

from irprune.dead import eliminate_dead
from irprune.errors import BarrierError, ExactnessError, PipelineError
from irprune.graph import EquivariantGraph
from irprune.infer import check_shapes
from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import UNKNOWN, Keep, Site, op_at


def slice_graph(graph: EquivariantGraph) -> EquivariantGraph:
    """Applies ``graph.keep``: every module shrinks to the kept blocks, with the folds done.

    Blocks that the selection leaves dead go as well; where nothing is selected, only those.

    Raises:
        ExactnessError: an op cannot shrink to the mask exactly; names the node.
    """
    space = graph.blocks
    selected = np.ones(space.n_classes, bool) if graph.keep is None else graph.keep
    selected = space.close(selected.copy())
    small = _slice_once(graph, eliminate_dead(graph, selected))
    while True:  # a removed path takes its couplings with it, which may free more dead blocks
        everything = np.ones(small.blocks.n_classes, bool)
        keep = eliminate_dead(small, everything)
        if keep.all():
            masked = graph.replace(keep=selected)
            return small.replace(origin=masked, claim=masked)
        small = _slice_once(small, keep)


def _slice_once(graph: EquivariantGraph, keep: BoolMask) -> EquivariantGraph:
    """The graph cut to a legal class mask."""
    space = graph.blocks
    elements = space.elements(keep)
    gm = copy.deepcopy(graph.gm)
    sites = graph.sites
    keeps = {name: space.keep_at(site, elements) for name, site in sites.items()}
    for name, site in sites.items():
        k = keeps[name].out
        if isinstance(site.out, IrrepsType) and k is not None:
            site.node.meta["sliced_dim"] = int(site.out.components(k).sum())
    done: dict[str, nn.Module] = {}
    for node in gm.graph.nodes:
        site, keep_here = sites[node.name], keeps[node.name]
        if node.op.startswith("call") and _is_to_do(site, keep_here):
            _slice_node(gm, node, site, keep_here, done)
    gm.recompile()
    sliced = graph.replace(gm=gm, keep=None, scores=None, origin=None, claim=None)
    _compare_types(sites, keeps, sliced)
    check_shapes(gm, sliced.sites, graph.inputs)
    return sliced


def _slice_node(
    gm: fx.GraphModule, node: fx.Node, site: Site, keep: Keep, done: dict[str, nn.Module]
) -> None:
    op = op_at(site)
    if op is None:
        raise BarrierError(f"{site.where} has no OpDef, but the mask removes blocks that it reads")
    if node.op != "call_module":
        node.args, node.kwargs = op.slice_call(site, keep, node.args, dict(node.kwargs))
    elif str(node.target) not in done:
        small = op.slice(site, keep)
        if small is None:
            raise ExactnessError(f"{site.where}: op {op.name} cannot be sliced")
        assert site.module is not None
        small.train(site.module.training)
        done[str(node.target)] = small
        parent, _, name = str(node.target).rpartition(".")
        gm.get_submodule(parent)._modules[name] = small


def _is_to_do(site: Site, keep: Keep) -> bool:
    """Whether a call changes: what it touches is cut, or a width among its arguments may be."""
    if not _untouched(keep):
        return True
    op = op_at(site)
    return op is not None and op.holds_width and site.out != UNKNOWN


def _untouched(keep: Keep) -> bool:
    masks = [*keep.operands, keep.out, *keep.axes.values()]
    return all(m is None or bool(m.all()) for m in masks)


def _compare_types(
    sites: dict[str, Site], keeps: dict[str, Keep], sliced: EquivariantGraph
) -> None:
    for name, site in sites.items():
        k: BoolMask | None = keeps[name].out
        if isinstance(site.out, IrrepsType) and k is not None and site.node.op != "output":
            want, got = site.out.kept(k), sliced.sites[name].out
            if not isinstance(got, IrrepsType) or not got.same_units(want):
                raise ExactnessError(
                    f"{site.where} was to shrink from {site.out} to {want}, but the sliced graph"
                    f" gives {got}"
                )


def masked_and_sliced(graph: EquivariantGraph) -> tuple[nn.Module, nn.Module]:
    """The masked original and the sliced model, both in float64, for comparison.

    Slicing is done again on the float64 original: folds round, and a model that was sliced in
    float32 carries that rounding (6e-8) in its weights, which says nothing about the mask.

    Raises:
        PipelineError: the graph has not been sliced.
    """
    if graph.origin is None:
        raise PipelineError("the graph has not been sliced; run slice first")
    origin = graph.origin.replace(gm=copy.deepcopy(graph.origin.gm).double())
    return origin.masked_reference(), slice_graph(origin).gm
