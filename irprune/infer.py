"""Type inference: an irreps type for every value of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from irprune.errors import IrrepsTypeError, UnknownForm, UsageError
from irprune.irreps import IrrepsType, Layout, Space
from irprune.ops.base import BEHIND, UNKNOWN, Other, Site, op_of_node
from irprune.shapes import only_shapes


def operands_of(node: fx.Node) -> tuple[fx.Node, ...]:
    """The nodes among the arguments, in call order, repeated where an argument is."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return tuple(found)


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def infer_sites(
    gm: fx.GraphModule, inputs: Mapping[str, Any], tolerant: bool = False
) -> dict[str, Site]:
    """A typed :class:`Site` for every node, in graph order.

    A call that no op knows, or not in this form, is a barrier: ``Site.why`` says why. Its result has
    no type, unless a module reads it that says which irreps it takes, and an example of the value
    has their width: then it is taken to carry these.

    Args:
        gm: the traced graph.
        inputs: type of each placeholder.
        tolerant: take operands that do not fit for a barrier.

    Raises:
        IrrepsTypeError: operands that do not fit; names the node and its operands.
    """
    assumed: dict[str, IrrepsType] = {}
    while True:
        sites: dict[str, Site] = {}
        for node in gm.graph.nodes:
            try:
                sites[node.name] = infer_site(gm, node, sites, inputs, assumed)
            except IrrepsTypeError as error:
                if not tolerant:
                    raise
                out = assumed.get(node.name, UNKNOWN)
                sites[node.name] = Site(node, None, (), (), out, str(error))
        found = _assumptions(sites)
        if not found:
            return sites
        assumed |= found


def infer_site(
    gm: fx.GraphModule,
    node: fx.Node,
    sites: Mapping[str, Site],
    inputs: Mapping[str, Any],
    assumed: Mapping[str, IrrepsType] = MappingProxyType({}),
) -> Site:
    """One node, given those before it."""
    operands = operands_of(node)
    types = tuple(sites[o.name].out for o in operands)
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    site = Site(node, module, operands, types)
    try:
        out, why = _infer(gm, site, inputs)
    except UnknownForm as error:
        out, why = UNKNOWN, str(error)
    except (IndexError, KeyError, TypeError) as error:
        out, why = UNKNOWN, f"{site.where}: the op cannot read the arguments ({error!r})"
    if out == UNKNOWN and why == "" and UNKNOWN not in types and node.op.startswith("call"):
        why = f"{site.where}: the op does not know this form of the call"
    if out == UNKNOWN and node.name in assumed:
        out, why = assumed[node.name], why or BEHIND
    return Site(node, module, operands, types, out, why)


def _infer(gm: fx.GraphModule, site: Site, inputs: Mapping[str, Any]) -> tuple[Any, str]:
    """The type of a result, and why the call is a barrier."""
    node = site.node
    if node.op == "placeholder":
        if node.name not in inputs and node.target not in inputs:
            raise IrrepsTypeError(
                f"input {node.target!r} has no declared type; declared: {', '.join(inputs)}"
            )
        return inputs.get(str(node.target), inputs.get(node.name)), ""
    if node.op == "get_attr":
        value = _attribute(gm, str(node.target))
        if torch.is_tensor(value):
            return Other("param", shape=tuple(value.shape)), ""
        return UNKNOWN, ""
    if node.op == "output":
        return (site.types[0] if len(site.types) == 1 else site.types), ""
    op = op_of_node(node, site.module)
    if op is None:
        return UNKNOWN, node.meta.get("why", "no OpDef")
    if any(t == UNKNOWN for t in site.types):
        return UNKNOWN, ""
    return op.infer(site), ""


def _assumptions(sites: Mapping[str, Site]) -> dict[str, IrrepsType]:
    """Irreps of untyped values, as the modules that read them take them."""
    wanted: dict[str, set[str]] = {}
    for site in sites.values():
        op = op_of_node(site.node, site.module)
        if op is None or site.module is None:
            continue
        for operand, irreps in zip(site.operands, op.expects(site.module), strict=False):
            if sites[operand.name].out == UNKNOWN and irreps is not None:
                wanted.setdefault(operand.name, set()).add(irreps)
    found = {}
    for name, texts in wanted.items():
        node = sites[name].node
        shape = node.meta.get("example_shape")
        types = [IrrepsType.parse(t) for t in texts]
        if shape is None or any(not t.same_units(types[0]) for t in types[1:]):
            continue
        if len(shape) == 2 and shape[1] == types[0].dim:
            rows = _SPACES.get(shape[0], Space.ANY)
            found[name] = types[0].in_space(rows)
    return found


_ROWS = {Space.NODE: 4, Space.EDGE: 7, Space.PAIR: 7, Space.GRAPH: 2, Space.ANY: 4}
_SPACES = {4: Space.NODE, 7: Space.EDGE, 2: Space.GRAPH}


def parse_input(name: str, text: str) -> IrrepsType | Other:
    """Reads the type of an input: ``8x0e+1o``, ``edge:0e+1o``, ``index``, ``edge_index``.

    Irreps followed by `` ir_mul`` lie in that layout. Without a prefix (``node:``, ``edge:``,
    ``graph:``) the rows are edges where the name says so (edge, src, dst, sender, receiver), else
    nodes.

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
    irreps = rest.removesuffix(" ir_mul")
    return IrrepsType.parse(irreps, rows, Layout.MUL_IR if irreps == rest else Layout.IR_MUL)


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
    if t.is_flat:
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
    with torch.no_grad(), only_shapes():
        _ShapeCheck(gm, sites).run(*example_inputs(inputs, dtype=dtype).values())


class _Observer(fx.Interpreter):
    """Notes the shape of every value in ``meta``."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if torch.is_tensor(value):
            n.meta["example_shape"] = tuple(value.shape)
        return value


def observe_shapes(gm: fx.GraphModule, inputs: Mapping[str, Any]) -> Any:
    """Runs the graph once on random inputs, notes the shapes, and gives back what it returns."""
    dtype = next((p.dtype for p in gm.parameters() if p.is_floating_point()), torch.float64)
    observer = _Observer(gm)
    observer.extra_traceback = False
    with torch.no_grad(), only_shapes():
        return observer.run(*example_inputs(inputs, dtype=dtype).values())
