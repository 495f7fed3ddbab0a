"""Type inference: an irreps type for every value of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from irprune.errors import IrrepsTypeError, UsageError
from irprune.irreps import IrrepsType, Layout, Space
from irprune.ops.base import UNKNOWN, Other, Site, op_of_node
from irprune.tablespec import any_distance


def operands_of(node: fx.Node) -> tuple[fx.Node, ...]:
    """The nodes among the arguments, in call order, repeated where an argument is."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return tuple(found)


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def infer_sites(gm: fx.GraphModule, inputs: Mapping[str, Any]) -> dict[str, Site]:
    """A typed :class:`Site` for every node, in graph order.

    Args:
        gm: the traced graph.
        inputs: type of each placeholder.

    Raises:
        IrrepsTypeError: operands that do not fit; names the node and its operands.
    """
    sites: dict[str, Site] = {}
    for node in gm.graph.nodes:
        operands = operands_of(node)
        types = tuple(sites[o.name].out for o in operands)
        module = gm.get_submodule(node.target) if node.op == "call_module" else None
        site = Site(node, module, operands, types)
        sites[node.name] = Site(node, module, operands, types, _infer(gm, site, inputs))
    return sites


def _infer(gm: fx.GraphModule, site: Site, inputs: Mapping[str, Any]) -> Any:
    node = site.node
    if node.op == "placeholder":
        if node.name not in inputs and node.target not in inputs:
            raise IrrepsTypeError(
                f"input {node.target!r} has no declared type; declared: {', '.join(inputs)}"
            )
        return inputs.get(str(node.target), inputs.get(node.name))
    if node.op == "get_attr":
        value = _attribute(gm, str(node.target))
        return Other("param", shape=tuple(value.shape)) if torch.is_tensor(value) else UNKNOWN
    if node.op == "output":
        return site.types[0] if len(site.types) == 1 else site.types
    op = op_of_node(node, site.module)
    if op is None or any(t == UNKNOWN for t in site.types):
        return UNKNOWN
    return op.infer(site)


_ROWS = {Space.NODE: 4, Space.EDGE: 7, Space.PAIR: 7, Space.GRAPH: 2, Space.ANY: 4}


def parse_input(name: str, text: str) -> IrrepsType | Other:
    """Reads the type of an input: ``8x0e+1o``, ``edge:0e+1o``, ``index``, ``edge_index``.

    Without a prefix (``node:``, ``edge:``, ``graph:``) the rows are edges where the name says so
    (edge, src, dst, sender, receiver), else nodes.

    Raises:
        UsageError: an unknown prefix, or irreps that do not parse.
    """
    space, _, rest = text.rpartition(":")
    by_name = any(k in name for k in ("edge", "src", "dst", "sender", "receiver"))
    if space and space not in ("node", "edge", "graph"):
        raise UsageError(
            f"input {name!r}: cannot read {text!r}: {space!r} is not node, edge or graph"
        )
    rows = Space(space) if space else (Space.EDGE if by_name else Space.NODE)
    if rest == "edge_index":
        return Other("edge_index")
    if rest == "index":
        return Other("index", rows=rows.value)
    if rest == "scalar":
        return IrrepsType.scalars(1, rows)
    return IrrepsType.parse(rest, rows)


def example_inputs(
    inputs: Mapping[str, Any], seed: int = 0, dtype: torch.dtype = torch.float64, grow: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors of the declared types: a few nodes and edges, ``grow`` rows more of each."""
    gen = torch.Generator().manual_seed(seed)
    n = {s: k + grow for s, k in _ROWS.items()}
    out: dict[str, torch.Tensor] = {}
    for name, t in inputs.items():
        if isinstance(t, IrrepsType):
            shape = (n[t.space], *row_shape(t))
            out[name] = torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype)
        elif t.kind == "edge_index":
            out[name] = torch.randint(0, n[Space.NODE], (2, n[Space.EDGE]), generator=gen)
        else:
            top = n[Space.NODE] if t.value is None else int(t.value)
            out[name] = torch.randint(0, top, (n[Space(t.rows)],), generator=gen)
    return out


def row_shape(t: IrrepsType) -> tuple[int, ...]:
    """The shape of one row of a value: [dim], [] or [k, Σ (2l+1)], by its layout."""
    if t.layout is Layout.MUL_IR:
        return (t.dim,)
    if t.layout is Layout.ROWS:
        return ()
    return (t.segments[0].mul if t.segments else 0, sum(s.dim for s in t))


class _ShapeCheck(fx.Interpreter):
    def __init__(self, gm: fx.GraphModule, sites: Mapping[str, Site]) -> None:
        super().__init__(gm)
        self.extra_traceback = False  # which would make every message several lines long
        self.sites = sites

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        t = self.sites[n.name].out
        if isinstance(t, IrrepsType) and torch.is_tensor(value):
            want = row_shape(t)
            if tuple(value.shape[1:]) != want:
                raise IrrepsTypeError(
                    f"{self.sites[n.name].where} was typed {t} (row shape {want}), but gives a"
                    f" tensor of shape {tuple(value.shape)}"
                )
        return value


def check_shapes(gm: fx.GraphModule, sites: Mapping[str, Site], inputs: Mapping[str, Any]) -> None:
    """Runs the graph once on random inputs and compares every shape with its type.

    Raises:
        IrrepsTypeError: a value whose shape contradicts its type; names the node.
    """
    dtype = next((p.dtype for p in gm.parameters() if p.is_floating_point()), torch.float64)
    with torch.no_grad(), any_distance():
        _ShapeCheck(gm, sites).run(*example_inputs(inputs, dtype=dtype).values())
