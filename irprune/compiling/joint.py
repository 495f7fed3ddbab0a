"""Energies and their gradient as one program of plain tensor operations, for a compiler to read.

A graph is cut in two. What builds lists of edges has results whose sizes depend on values; it runs as
it is, first. The rest is run once on tensors without values (``make_fx``), together with the gradient
by the edge vectors. What comes out holds no Python, no TorchScript and no autograd, and holds for any
number of atoms and edges that its conditions allow.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from irprune.errors import LegalityError
from irprune.functional import edge_lists, edge_pairs
from irprune.ops.base import op_of_class

ROWS = (0, 0, 1, 0)
"""The axis that grows with the structure: of edge vectors, species, edge index and head. Lists of
edges have one axis."""
COUNTS = ("edges", "atoms", "edges", "atoms")


def no_duck_shapes() -> Any:
    """While it is entered, as many atoms as edges are a coincidence and no law."""
    from torch.fx.experimental import _config

    return _config.patch(use_duck_shape=False)  # type: ignore[attr-defined]


def sizes_of(inputs: Sequence[Tensor]) -> tuple[int, ...]:
    """The sizes of inputs and lists that grow with the structure."""
    axes = (*ROWS, *(0 for _ in inputs[len(ROWS) :]))
    return tuple(int(t.shape[axis]) for t, axis in zip(inputs, axes, strict=True))


@dataclass(frozen=True, eq=False)
class Parts:
    """A graph cut in two; both parts share the modules of the graph."""

    lists: fx.GraphModule
    """The graph's inputs → the lists of edges."""
    rest: fx.GraphModule
    """The graph's inputs, then the lists → atomic energies [N]."""


def split(gm: fx.GraphModule) -> Parts:
    """Cuts a graph of (edge vectors, species, edge index, head) after its lists of edges.

    Raises:
        LegalityError: a graph with other inputs.
    """
    given = [n for n in gm.graph.nodes if n.op == "placeholder"]
    if len(given) != len(ROWS):
        raise LegalityError(
            f"only interatomic potentials are compiled: the graph has {len(given)} inputs"
            f" ({', '.join(n.name for n in given)}), expected edge vectors, species, edge index and"
            " head; leave compile out"
        )
    made = [n for n in gm.graph.nodes if n.op == "call_function" and n.target in _MAKES_LISTS]
    results = [r for n in made for r in (n.users if n.target is edge_pairs else (n,))]
    env: dict[fx.Node, fx.Node] = {}
    lists = fx.Graph()
    needed = _behind(made) | set(results)
    for node in gm.graph.nodes:
        if node.op == "placeholder" or node in needed:
            # edge lists read no more than the number of atoms of what is not in this part
            env[node] = lists.node_copy(node, lambda n: env.get(n, env[given[1]]))
    lists.output(tuple(env[r] for r in results))
    rest, env = fx.Graph(), {}
    for node in given:
        env[node] = rest.node_copy(node)
    for number, node in enumerate(results):
        env[node] = rest.placeholder(f"edge_list_{number}")
    for node in gm.graph.nodes:
        if node not in env and node not in made:
            env[node] = rest.node_copy(node, lambda n: env[n])
    parts = Parts(fx.GraphModule(gm, lists), fx.GraphModule(gm, rest))
    parts.rest.graph.eliminate_dead_code()
    parts.rest.recompile()
    return parts


_MAKES_LISTS = (edge_pairs, edge_lists)


def _behind(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The nodes and all whose values they need; of edge lists' third argument it is the shape."""
    found: set[fx.Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            skipped = node.args[2] if node.target is edge_lists else None
            todo += [n for n in node.all_input_nodes if n is not skipped]
    return found


@dataclass(frozen=True, eq=False)
class Joint:
    """One program for energies and gradient."""

    module: fx.GraphModule
    """(inputs, lists) → atomic energies [N], gradient [E, 3]. Its parameters are the graph's own."""
    fits: Callable[[Sequence[Tensor]], bool]
    """Whether it holds for tensors of these shapes, dtypes and devices."""


def capture(rest: fx.GraphModule, inputs: Sequence[Tensor]) -> Joint:
    """The second part of a graph and its gradient as one program.

    Args:
        rest: what ``split`` gave.
        inputs: inputs and lists. All sizes that grow with the structure must be two or more.

    Raises:
        LegalityError: an operation that cannot be captured for all sizes; names the node.
    """
    _exchange(rest)

    def both(vectors: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        counts = _Counts((vectors, *others))
        vectors = vectors.detach().requires_grad_(True)
        with torch.enable_grad():
            energies = _Watched(rest, counts).run(vectors, *others)
            (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        counts.check("the gradient")
        return energies.detach(), gradient

    # without TorchScript's optimizer, which puts sizes of its own into what it has seen before
    quiet = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    with quiet, no_duck_shapes():
        try:
            tracer = make_fx(both, _AS_PRODUCT, "symbolic", _allow_non_fake_inputs=True)
            made = tracer(*inputs)
        except LegalityError:
            raise
        except Exception as error:
            raise LegalityError(_cannot("the gradient", error)) from error
    fits = _Fits(made, inputs)
    made.graph.eliminate_dead_code()
    made.recompile()
    return Joint(made, fits)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product over one column as a product.

    Inductor asks how many rows such a matrix has, compiles for that, and again for other structures.
    """
    one = isinstance(b.shape[0], int) and b.shape[0] == 1
    return a * b if one else NotImplemented


_AS_PRODUCT = {torch.ops.aten.mm.default: _product}


def _exchange(rest: fx.GraphModule) -> None:
    """Puts the modules that can be captured in the place of those that cannot."""
    for node in rest.graph.nodes:
        if node.op == "call_module":
            module = rest.get_submodule(node.target)
            op = op_of_class(type(module))
            other = module if op is None else op.capturable(module)
            if other is not module:
                parent, _, leaf = node.target.rpartition(".")
                rest.get_submodule(parent)._modules[leaf] = other


class _Counts:
    """The sizes that must stay open while a graph is captured."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        names = (*COUNTS, *("entries of an edge list" for _ in inputs[len(COUNTS) :]))
        axes = (*ROWS, *(0 for _ in inputs[len(ROWS) :]))
        self.open: list[tuple[str, Any]] = [
            (name, t.shape[axis]) for name, t, axis in zip(names, inputs, axes, strict=True)
        ]

    def check(self, where: str) -> None:
        """
        Raises:
            LegalityError: a size has become a number; names what did it.
        """
        for name, size in self.open:
            if is_concrete_int(size):
                raise LegalityError(
                    f"{where} cannot be compiled for any structure: it makes the number of {name} a"
                    f" constant, {int(size)} (TorchScript does); run the exact passes before"
                    " compile, or leave compile out"
                )


class _Watched(fx.Interpreter):
    """Runs a graph and says which node cannot be captured."""

    def __init__(self, gm: fx.GraphModule, counts: _Counts) -> None:
        super().__init__(gm)
        self.extra_traceback = False
        self.counts = counts

    def run_node(self, n: fx.Node) -> Any:
        where = f"node {n.name}"
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            where += f" (module {n.target}, {type(module).__name__})"
        try:
            found = super().run_node(n)
        except Exception as error:
            raise LegalityError(_cannot(where, error)) from error
        self.counts.check(where)
        return found


def _cannot(where: str, error: Exception) -> str:
    return (
        f"{where} cannot be compiled: {type(error).__name__}: {first_line(error)}; run the exact"
        " passes before compile, or leave compile out"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


class _Fits:
    """What the capture assumed about shapes, as a function of tensors."""

    def __init__(self, made: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
        self.kinds = [(t.dtype, t.device, t.dim()) for t in inputs]
        environment: Any = made.shape_env
        values = [n.meta["val"] for n in made.graph.nodes if n.op == "placeholder"]
        sizes = [s for v in values for s in v.shape]
        given = [s.node.expr if isinstance(s, torch.SymInt) else int(s) for s in sizes]
        known = environment.replacements
        laws = [_replaced(g.expr, known) for g in environment.guards]
        self.free, self.holds = _compiled_laws(given, laws)

    def __call__(self, inputs: Sequence[Tensor]) -> bool:
        if [(t.dtype, t.device, t.dim()) for t in inputs] != self.kinds:
            return False
        sizes = [int(s) for t in inputs for s in t.shape]
        return min(sizes) > 1 and bool(self.holds(sizes))


def _replaced(expression: Any, known: Any) -> Any:
    while hasattr(expression, "xreplace"):
        other = expression.xreplace(known)
        if other == expression:
            break
        expression = other
    return expression


def _compiled_laws(given: list[Any], laws: list[Any]) -> tuple[list[Any], Callable[..., bool]]:
    """The free symbols, and whether sizes (one per entry of ``given``) obey all laws."""
    import sympy

    free: list[Any] = []
    places: list[int] = []
    for place, size in enumerate(given):
        if isinstance(size, sympy.Symbol) and size not in free:
            free.append(size)
            places.append(place)
    true = {sympy.true, True}
    rest = [law for law in laws if law not in true]
    modules: Any = [
        {
            "FloorDiv": operator.floordiv,
            "CleanDiv": operator.floordiv,
            "Mod": operator.mod,
            "PythonMod": operator.mod,
            "Max": max,
            "Min": min,
        },
        "math",
    ]
    expected = sympy.lambdify(free, given, modules=modules)
    obeyed = sympy.lambdify(free, rest, modules=modules)

    def holds(sizes: list[int]) -> bool:
        values = [sizes[p] for p in places]
        return list(expected(*values)) == sizes and all(obeyed(*values))

    return free, holds
