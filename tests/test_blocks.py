"""Relations between blocks: closing, removing, products, shared modules, printing."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from irprune.blocks import BlockSpace
from irprune.errors import BarrierError
from irprune.functional import scatter_sum
from irprune.slicing import slice_graph
from tests.handmade import axis, error, trace, without

quick = settings(
    max_examples=60, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)
N = 7


def space_of(same, products, fixed):
    """A space of N single elements; every value is its own span, so none must keep one."""
    space = BlockSpace({})
    space.n = N
    for a, b in same:
        space.add_same(np.array([a]), np.array([b]))
    for out, factors in products:
        space.products.append((np.array([out]), tuple(np.array([f]) for f in factors)))
    for e in fixed:
        space.fixed[e] = "test"
    return space


def is_legal(space, keep):
    """The definition: fixed stay, and a product is kept exactly when its factors are."""
    e = space.elements(keep)
    return all(e[f] for f in space.fixed) and all(
        e[out[0]] == all(e[f[0]] for f in factors) for out, factors in space.products
    )


element = st.integers(0, N - 1)
relations = st.builds(
    space_of,
    st.lists(st.tuples(element, element), max_size=3),
    st.lists(
        st.tuples(element, st.lists(element, min_size=1, max_size=3, unique=True)), max_size=3
    ),
    st.lists(element, max_size=2),
)
masks = st.lists(st.booleans(), min_size=N, max_size=N)


def class_mask(space, wanted):
    mask = np.zeros(space.n_classes, bool)
    for e, w in enumerate(wanted):
        mask[space.class_of[e]] |= w
    return mask


@quick
@given(relations, masks)
def test_close_gives_the_smallest_legal_superset(space, wanted):
    keep = class_mask(space, wanted)
    closed = space.close(keep.copy())
    assert (closed >= keep).all()
    assert is_legal(space, closed)
    for bits in itertools.product([False, True], repeat=space.n_classes):
        other = np.array(bits, bool)
        if (other >= keep).all() and is_legal(space, other):
            assert (other >= closed).all()
    assert (space.close(closed.copy()) == closed).all()


@quick
@given(relations, masks, masks)
def test_without_is_legal_and_monotone(space, few, more):
    small = class_mask(space, few)
    big = small | class_mask(space, more)
    kept, fewer = space.without(small), space.without(big)
    assert is_legal(space, kept)
    assert is_legal(space, fewer)
    assert (fewer <= kept).all()
    assert (space.without(~kept) == kept).all()


@quick
@given(relations, masks)
def test_without_removes_what_is_free(space, wanted):
    """A class that no product mentions goes exactly when asked, unless it is fixed."""
    removed = class_mask(space, wanted)
    touched = np.zeros(space.n_classes, bool)
    for out, factors in space.products:
        for ids in (out, *factors):
            touched[space.class_of[ids]] = True
    kept = space.without(removed)
    free = ~touched & ~space.fixed_classes
    assert (kept[free] == ~removed[free]).all()


def test_products_of_products():
    space = space_of([], [(2, [0, 1]), (3, [2, 4])], [])
    keep = space.without(class_mask(space, [True] + [False] * 6))
    assert keep.tolist() == [False, True, False, False, True, True, True]
    assert space.derived.tolist() == [False, False, True, True, False, False, False]
    need = class_mask(space, [False, False, False, True] + [False] * 3)
    assert space.close(need).tolist() == [True, True, True, True, True, False, False]


def test_removing_a_product_alone_changes_nothing():
    space = space_of([], [(2, [0, 1])], [])
    assert space.without(class_mask(space, [False, False, True] + [False] * 4)).all()


def test_sizes_must_match():
    with pytest.raises(BarrierError) as caught:
        space_of([], [], []).add_same(np.arange(2), np.arange(3))
    assert str(caught.value) == "cannot relate 2 elements to 3"


V = {"x": "2x0e+1x1o"}


@pytest.fixture(scope="module")
def residual(unscripted):
    gate = enn.Gate("2x0e", [torch.tanh], "2x0e", [torch.sigmoid], "2x1o")
    return trace(
        lambda self, x: self.c(self.gate(self.a(x)) + self.b(x)),
        V,
        a=o3.Linear("2x0e+1x1o", gate.irreps_in),
        b=o3.Linear("2x0e+1x1o", "2x0e+2x1o"),
        gate=gate,
        c=o3.Linear("2x0e+2x1o", "1x0e+1x1o"),
    )


def test_groups_print(residual):
    assert residual.groups().splitlines() == [
        f"{'axis':<48} kind     groups",
        f"{'b:0e':<48} channel  2x0e",
        "    with a, add, gate",
        f"{'b:1o':<48} channel  2x1o",
        "    with a, add, gate",
        "fixed 3 blocks: graph input (x (x))",
        "fixed 2 blocks: graph output (output (output))",
    ]


def test_a_group_holds_its_gate(residual):
    space = residual.blocks
    groups = axis(residual, "b:1o").groups
    members = [space.locate(int(e)) for e in space.members[groups[1]]]
    assert [(s.name, offset) for s, offset in members] == [
        ("a", 3), ("a", 5), ("gate", 3), ("b", 3), ("add", 3),
    ]  # fmt: skip


def test_every_value_keeps_a_block(residual):
    graph = without(residual, {"b:0e": [0, 1], "b:1o": [0, 1]})
    kept = graph.blocks.elements(graph.keep)
    for span in graph.blocks.spans.values():
        assert kept[span.ids].any(), span.name
    assert error(graph) <= 1e-12


def test_prefer_decides_which_block_stays(residual):
    space = residual.blocks
    last = axis(residual, "b:1o").groups[1]
    prefer = np.zeros(space.n_classes, bool)
    prefer[last] = True
    everything = np.ones(space.n_classes, bool)
    assert space.without(everything, prefer)[last]
    assert not space.without(everything)[last]


def test_relation_graph(residual):
    g = residual.blocks.relation_graph()
    assert set(g.nodes) == {"x", "a", "b", "gate", "add", "c"}
    assert {frozenset(e) for e in g.edges} == {
        frozenset(e) for e in [("a", "gate"), ("gate", "add"), ("b", "add")]
    }
    assert g.edges["a", "gate"]["kind"] == "same"


def test_relation_graph_of_a_product(unscripted):
    graph = trace(
        lambda self, x, edge, src, dst: self.c(
            scatter_sum(self.tp(x[src], edge), dst, dim=0, dim_size=x.shape[0])
        ),
        {**V, "edge": "1x0e+1x1o", "src": "index", "dst": "index"},
        tp=o3.TensorProduct(
            "2x0e+1x1o", "1x0e+1x1o", "2x1o", [(0, 1, 0, "uvu", True)], shared_weights=True
        ),
        c=o3.Linear("2x1o", "1x1o"),
    )
    g = graph.blocks.relation_graph()
    assert g.edges["tp", "tp.path"]["kind"] == "product"
    assert g.edges["tp", "getitem"]["kind"] == "product"
    assert g.edges["tp", "scatter_sum"]["kind"] == "same"
    assert [a.name for a in graph.axes()] == ["tp.path"]


def test_a_module_called_twice_is_cut_once(unscripted):
    graph = trace(
        lambda self, x: self.out(self.twice(torch.tanh(self.twice(self.a(x))))),
        {"x": "3x0e"},
        a=o3.Linear("3x0e", "4x0e"),
        twice=o3.Linear("4x0e", "4x0e"),
        out=o3.Linear("4x0e", "1x0e"),
    )
    (only,) = graph.axes()
    assert len(only.groups) == 4
    graph = without(graph, {only.name: [0, 2]})
    small = slice_graph(graph)
    assert str(small.gm.get_submodule("twice").irreps_in) == "2x0e"
    assert error(graph) <= 1e-12
    assert small.stats().params == 3 * 2 + 2 * 2 + 2


def test_a_function_called_twice_ties_nothing(unscripted):
    """A module without weights may be shared between layers of any width."""
    graph = trace(
        lambda self, x: self.c(self.f(self.a(x))) + self.d(self.f(self.b(x))),
        {"x": "3x0e"},
        a=o3.Linear("3x0e", "4x0e"),
        b=o3.Linear("3x0e", "5x0e"),
        c=o3.Linear("4x0e", "1x0e"),
        d=o3.Linear("5x0e", "1x0e"),
        f=torch.nn.SiLU(),
    )
    assert [(a.name, len(a.groups)) for a in graph.axes()] == [("f:0e", 4), ("f_1:0e", 5)]
    graph = without(graph, {"f:0e": [0]})
    assert error(graph) <= 1e-12


def test_calls_of_different_size_are_refused():
    space = BlockSpace({})
    first, second = (
        SimpleNamespace(
            node=SimpleNamespace(op="call_module", target="f", name=n),
            module=o3.Linear("1x0e", "1x0e"),
            operands=(),
            types=(),
            out=None,
            why="",
        )
        for n in ("f", "f_1")
    )
    space._add("f", None, 2)
    space._add("f_1", None, 3)
    with pytest.raises(BarrierError) as caught:
        space._tie_calls(first, second)
    assert str(caught.value) == "module f is called at f and f_1 with values of different size"
