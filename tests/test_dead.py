"""Dead blocks: read by nobody, or provably zero; and what looks dead but is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3

from irprune.dead import dead_classes, eliminate_dead, liveness
from irprune.slicing import masked_and_sliced, slice_graph
from irprune.verification.ladder import compare_on_examples
from tests.handmade import axis, error, trace, without

pytestmark = pytest.mark.usefixtures("unscripted")

X = {"x": "2x0e+2x1o"}


def irreps_of(graph, **expected):
    """Slices without a selection: what is left at each node."""
    small = slice_graph(graph)
    assert compare_on_examples(small, graph.gm, small.gm) <= 1e-12
    assert {n: small.type_of(n).irreps for n in expected} == expected
    return small


def all_classes(graph):
    return np.ones(graph.blocks.n_classes, bool)


def test_nobody_reads_it():
    """b reads no vectors, so the vectors of a go, and with them their weights."""
    graph = trace(
        lambda self, x: self.b(self.a(x)),
        X,
        a=o3.Linear("2x0e+2x1o", "3x0e+4x1o"),
        b=o3.Linear("3x0e+4x1o", "1x0e"),
    )
    small = irreps_of(graph, a="3x0e", b="1x0e")
    assert small.stats().params == 2 * 3 + 3


def test_provably_zero():
    """Nothing makes the pseudovectors of a: no path leads there, and b need not read them."""
    graph = trace(
        lambda self, x: self.b(self.a(x)),
        X,
        a=o3.Linear("2x0e+2x1o", "3x0e+4x1e"),
        b=o3.Linear("3x0e+4x1e", "1x0e+1x1e"),
    )
    small = irreps_of(graph, a="3x0e", b="1x0e+1x1e")
    assert small.gm(*small.example())[:, 1:].abs().max() == 0


def test_dead_through_several_layers():
    """Both directions need a fixpoint: zero forwards through c, unread backwards through a."""
    graph = trace(
        lambda self, x: self.d(self.c(self.b(self.a(x)))),
        X,
        a=o3.Linear("2x0e+2x1o", "3x0e+2x1o+2x1e"),
        b=o3.Linear("3x0e+2x1o+2x1e", "3x0e+2x1o+2x1e"),
        c=o3.Linear("3x0e+2x1o+2x1e", "4x0e+2x1o+2x1e"),
        d=o3.Linear("4x0e+2x1o+2x1e", "1x0e+1x1e"),
    )
    irreps_of(graph, a="3x0e", b="3x0e", c="4x0e", d="1x0e+1x1e")


def test_a_removed_block_leaves_others_dead():
    """Without the vectors of a, b has nothing to make vectors from."""
    graph = trace(
        lambda self, x: self.c(self.b(self.a(x))),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "3x0e+2x1o"),
        b=o3.Linear("3x0e+2x1o", "3x0e+2x1o"),
        c=o3.Linear("3x0e+2x1o", "1x0e+1x1o"),
    )
    graph = without(graph, {"a:1o": [0, 1]})
    assert graph.elements()[graph.blocks.ids_of("b")].all()
    small = slice_graph(graph)
    assert (small.type_of("a").irreps, small.type_of("b").irreps) == ("3x0e", "3x0e")
    assert error(graph) <= 1e-12


def gated(act_scalars, act_gates):
    """A gate whose scalars and gates are zero before the activations."""
    gate = enn.Gate("2x0e", [act_scalars], "2x0e", [act_gates], "2x1o")
    return trace(
        lambda self, x: self.b(self.gate(self.a(x))),
        {"x": "2x0o+2x1o"},
        a=o3.Linear("2x0o+2x1o", gate.irreps_in),
        gate=gate,
        b=o3.Linear("2x0e+2x1o", "1x0e+1x1o"),
    )


def test_a_dead_gate_is_a_constant_not_a_zero():
    """sigmoid(0) = 1/2: vectors pass, scalars are 1/2."""
    small = irreps_of(gated(torch.sigmoid, torch.sigmoid), gate="2x0e+2x1o")
    out = small.gm(*small.example())
    assert out[:, 0].std() == 0
    assert out[0, 0] != 0
    assert out[:, 1:].abs().max() > 0


def test_scalars_with_nothing_in_them_go():
    """tanh(0) = 0: the scalars of the gate are zero. Its gates are kept with what they gate."""
    small = irreps_of(gated(torch.tanh, torch.sigmoid), gate="2x1o", b="1x0e+1x1o")
    assert small.gm(*small.example())[:, 0].abs().max() == 0


def biased():
    """b has no vectors to read but those that a cannot make, and a bias on its scalars."""
    graph = trace(
        lambda self, x: self.c(self.b(self.a(x))),
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "3x0e+2x1o"),
        b=o3.Linear("3x0e+2x1o", "4x0e+2x1o", biases=True),
        c=o3.Linear("4x0e+2x1o", "1x0e+1x1o"),
    )
    torch.nn.init.normal_(graph.gm.get_submodule("b").bias)
    return graph


def test_a_bias_keeps_its_output_alive():
    graph = biased()
    nothing = np.zeros(graph.blocks.n, bool)
    nothing[graph.blocks.ids_of("b")] = True
    live = liveness(graph, nothing)
    assert live.nonzero[graph.blocks.ids_of("b")].tolist() == [True] * 4 + [False] * 2


def test_a_biased_output_keeps_one_input():
    """e3nn cannot build a Linear with a biased output that no path leads to."""
    graph = without(biased(), {"a:0e": [0, 1, 2]})
    small = slice_graph(graph)
    assert small.type_of("a").irreps == "1x0e+2x1o"
    assert small.type_of("b").irreps == "4x0e+2x1o"
    assert error(graph) <= 1e-12
    graph = without(biased(), {"a:0e": [0, 1, 2], "b:0e": [0, 1, 2, 3]})
    assert slice_graph(graph).type_of("a").irreps == "2x1o"
    assert error(graph) <= 1e-12


ZEROS = {  # function → whether it turns a dead scalar into something
    "activation-tanh": (lambda self, x: self.tanh(x), False),
    "activation-sigmoid": (lambda self, x: self.sigmoid(x), True),
    "sin": (lambda self, x: torch.sin(x), False),
    "cos": (lambda self, x: torch.cos(x), True),
    "pow": (lambda self, x: x**2, False),
    "add": (lambda self, x: x + 1.0, True),
    "mul": (lambda self, x: x * 3.0, False),
    "exp-of-square": (lambda self, x: torch.exp(-x.square()), True),
}


@pytest.mark.parametrize("name", list(ZEROS))
def test_functions_of_zero(name):
    """a makes nothing; both its scalars stay where f(0) ≠ 0."""
    f, alive = ZEROS[name]
    graph = trace(
        lambda self, x: self.c(torch.cat([f(self, self.a(x)), self.b(x)], dim=1)),
        {"x": "1x0e+1x1o"},
        a=o3.Linear("1x0e+1x1o", "2x0e", instructions=[]),
        b=o3.Linear("1x0e+1x1o", "1x0e"),
        c=o3.Linear("3x0e", "1x0e"),
        tanh=enn.Activation("2x0e", [torch.tanh]),
        sigmoid=enn.Activation("2x0e", [torch.sigmoid]),
    )
    live = liveness(graph, np.ones(graph.blocks.n, bool))
    assert live.nonzero[graph.blocks.ids_of("cat")].tolist() == [alive, alive, True]
    irreps_of(graph, cat="2x0e+1x0e" if alive else "1x0e+1x0e")  # every value keeps one block


def test_paths_whose_second_operand_is_dead():
    """Without its vectors, the second operand feeds only the scalar paths."""
    tp = o3.TensorProduct(
        "2x0e+2x1o",
        "1x0e+1x1o",
        "2x0e+2x1o+2x1o+2x0e",
        [(i, j, 2 * i + j, "uvu", True) for i in (0, 1) for j in (0, 1)],
        shared_weights=False,
    )  # fmt: skip
    graph = trace(
        lambda self, x, y: self.b(self.tp(x, self.a(x), self.net(y))),
        {**X, "y": "2x0e"},
        a=o3.Linear("2x0e+2x1o", "1x0e+1x1o", instructions=[(0, 0)]),
        net=enn.FullyConnectedNet([2, 4, tp.weight_numel], torch.tanh),
        tp=tp,
        b=o3.Linear(tp.irreps_out, "1x0e+1x1o"),
    )
    small = irreps_of(graph, a="1x0e", tp="2x0e+2x1o", net="4x0e")
    assert len(small.gm.get_submodule("tp").instructions) == 2


def test_a_path_that_nobody_reads_takes_its_weights_along():
    tp = o3.TensorProduct(
        "2x0e", "1x0e+1x1o", "2x0e+2x1o",
        [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True)], shared_weights=False,
    )  # fmt: skip
    graph = trace(
        lambda self, x, edge, y: self.b(self.tp(x, edge, self.net(y))),
        {"x": "edge:2x0e", "edge": "1x0e+1x1o", "y": "edge:2x0e"},
        net=enn.FullyConnectedNet([2, 4, tp.weight_numel], torch.tanh),
        tp=tp,
        b=o3.Linear(tp.irreps_out, "1x0e"),
    )
    irreps_of(graph, tp="2x0e", net="2x0e")


def test_inputs_and_outputs_stay():
    graph = trace(
        lambda self, x: self.a(x), X, a=o3.Linear("2x0e+2x1o", "1x0e+1x1e", instructions=[])
    )
    assert not dead_classes(graph, all_classes(graph)).any()
    irreps_of(graph, x="2x0e+2x1o", a="1x0e+1x1e")


def test_fixpoint():
    """Eliminating again finds nothing, in the class mask and in the sliced graph."""
    graph = trace(
        lambda self, x: self.b(self.a(x)),
        X,
        a=o3.Linear("2x0e+2x1o", "3x0e+4x1e"),
        b=o3.Linear("3x0e+4x1e", "1x0e+1x1e"),
    )
    keep = eliminate_dead(graph, all_classes(graph))
    assert keep.sum() == graph.blocks.n_classes - 4
    assert (eliminate_dead(graph, keep) == keep).all()
    small = slice_graph(graph)
    assert eliminate_dead(small, all_classes(small)).all()


def test_the_masked_model_carries_the_selection_only():
    """Dead blocks go from the sliced graph; the reference has the mask that was selected."""
    graph = trace(
        lambda self, x: self.b(self.a(x)),
        X,
        a=o3.Linear("2x0e+2x1o", "3x0e+4x1e"),
        b=o3.Linear("3x0e+4x1e", "1x0e+1x1e"),
    )
    graph = without(graph, {"a:0e": [1]})
    small = slice_graph(graph)
    assert (small.origin.keep == graph.keep).all()
    space = graph.blocks
    assert small.origin.keep[list(axis(graph, "a:1e").groups)].all()
    assert small.type_of("a").irreps == "2x0e"
    masked, sliced = masked_and_sliced(small)
    assert compare_on_examples(small, masked, sliced) <= 1e-12
    assert space.n_classes == graph.blocks.n_classes
