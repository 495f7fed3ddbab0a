"""parse ∘ print is the identity, on random networks and real models; and errors name the place."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st

import irprune
from irprune.errors import TextError
from irprune.irreps import IrrepsType, Layout, Space
from irprune.ops.base import Other
from irprune.text import listing_of, parse
from irprune.text.listing import Statement, print_ranges
from irprune.text.values import Ref, Word, function_name, implied_function
from tests import networks
from tests.families import sevennet_models
from tests.families.mace_models import STYLES, loaded, without_torchscript  # noqa: F401
from tests.handmade import trace

pytestmark = pytest.mark.usefixtures("unscripted")
EVERYTHING = {"costs": True, "groups": True, "tensors": True}


def check(graph):
    for options in ({}, EVERYTHING):
        listing = listing_of(graph, **options)
        text = str(listing)
        assert parse(text) == listing
        assert str(parse(text)) == text
        assert graph.text(**options) == text
    listed = {s.name: s for s in listing.statements}
    assert list(listed) == list(graph.sites)
    for name, site in graph.sites.items():
        if site.node.op != "output":
            assert listed[name].type == site.out
    assert {t.path: t.shape for t in listing.tensors}.items() >= {
        s.target: s.type.shape for s in listing.statements if s.kind == "parameter"
    }.items()


@settings(max_examples=12)
@given(
    kinds=st.lists(st.sampled_from(networks.KINDS), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.4]),
)
def test_random_networks(kinds, seed, share):
    graph = irprune.trace(networks.RandomNet(kinds, seed).double(), networks.INPUTS)
    check(graph.replace(keep=networks.random_mask(graph, seed, share)) if share else graph)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_mace(style, without_torchscript):  # noqa: F811
    from irprune.families.mace import MaceFamily
    from irprune.families.trace import trace_family

    check(trace_family(MaceFamily(), loaded(style)))


@pytest.mark.real
def test_sevennet_0():
    check(sevennet_models.sevennet_0())


@pytest.mark.real
@pytest.mark.slow
def test_optimized_sevennet_0():
    check(irprune.optimize(sevennet_models.sevennet_0(), verify=False))


# ---- values by themselves

SPACES = st.sampled_from(list(Space))
TERMS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 4), st.sampled_from([-1, 1])), max_size=3
)
IRREPS = st.builds(
    IrrepsType.of, TERMS, SPACES, st.sampled_from([Layout.MUL_IR, Layout.ROWS])
)  # fmt: skip
WORDS = st.sampled_from(["index", "const", "shape", "mask", "none", "zeros", "edge_index"])
OTHERS = st.builds(
    Other,
    WORDS,
    rows=st.none() | st.sampled_from(["node", "edge", "pair"]),
    value=st.none() | st.integers() | st.text() | st.booleans() | IRREPS,
) | st.builds(
    Other,
    st.just("param"),
    rows=st.none() | st.just("node"),
    shape=st.lists(st.integers(0, 99), max_size=3).map(tuple),
)
TYPES = st.recursive(IRREPS | OTHERS, lambda t: st.lists(t, max_size=3).map(tuple), max_leaves=4)
CONSTANTS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([Ref("x"), Word("torch.float64"), Word("..."), Word("-inf"), Word("`a b`")])
)


def nested(inner):
    some = st.lists(inner, max_size=3)
    ends = st.none() | st.integers() | st.just(Ref("x"))
    return (
        some | some.map(tuple) | st.builds(slice, ends, ends, ends)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    )  # fmt: skip


ARGUMENTS = st.recursive(CONSTANTS, nested, max_leaves=6)


def same(a, b):
    """Equality that tells True from 1, and 1 from 1.0."""
    return repr(a) == repr(b)


@settings(max_examples=80)
@given(TYPES, st.lists(ARGUMENTS, max_size=3), ARGUMENTS)
def test_any_statement(kind, args, named):
    made = Statement("y", "module", kind, "op-x", "a.b", tuple(args), (("dim", named),))
    first = Statement("x", "input", Other("index"), "", "x")
    back = parse(f"{first}\n{made}").statements[1]
    assert same(back, made)
    assert back == made


@given(st.sets(st.integers(0, 40)))
def test_ranges(numbers):
    text = "%x : edge_index = input\naxis a:0e : channel[50x0e] at %x segment 0 keep {}"
    kept = tuple(sorted(numbers))
    (axis,) = parse(text.format(print_ranges(kept))).axes
    assert axis.kept == kept


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (torch.exp, "torch.exp"),
        (torch.nn.functional.silu, "torch.nn.functional.silu"),
        (torch.linalg.norm, "torch.linalg.norm"),
        (getattr, "builtins.getattr"),
        (math.sqrt, "math.sqrt"),
        (check, "tests.test_text_parse.check"),
    ],
)
def test_names_of_functions(f, name):
    assert function_name(f) == name


def test_what_a_call_may_leave_out():
    assert implied_function("getitem") == "operator.getitem"
    assert implied_function("scatter-sum") == "irprune.functional.scatter_sum"
    assert implied_function("linear") is None


def test_methods_functions_and_inputs_by_another_name():
    graph = trace(
        lambda self, input: (self.a(input).reshape(-1, 2) + torch.add(self.a(input), 1.0)) * 1.0,
        {"input": "2x0e"},
        a=o3.Linear("2x0e", "2x0e"),
    )
    check(graph)
    text = str(graph)
    assert "%input_1 : node[2x0e] = input {input}" in text
    assert "(%a, -1, 2) {.reshape()}\n" in text
    assert "= add(%a_1, 1.0) {torch.add()}" in text
    assert "= add(%reshape, %add)\n" in text


# ---- what cannot be read

GOOD = """# a comment
%x : node[2x0e] = input

%y : node[2x0e] = linear(%x) {a}"""
BAD = {
    "no name": ("x : node[1x0e] = input", "line 5, column 1: expected %name, or one of return,"),
    "no type": ("%z : = linear(%y) {b}", "line 5, column 6: expected a type, such as"),
    "irreps": (
        "%z : node[1x0q] = linear(%y) {b}",
        "line 5, column 6: cannot read irreps '1x0q': '1x0q' is not of the form 64x1o",
    ),
    "layout": ("%z : node[1x0e flat] = linear(%y) {b}", "line 5, column 6: 'flat' is not a valid"),
    "twice": ("%x : node[1x0e] = linear(%y) {b}", "line 5, column 1: %x is made a second time"),
    "too early": (
        "%z : node[1x0e] = add(%y, (1, %q))",
        "line 5, column 31: %q is used before it is made",
    ),
    "itself": ("%z : node[1x0e] = neg(%z)", "line 5, column 23: %z is used before it is made"),
    "no bracket": ("%z : node[1x0e] = neg(%y", "line 5, column 25: expected a comma or ')'"),
    "no comma": ("%z : node[1x0e] = add(%y %y)", "line 5, column 26: expected a comma or ')'"),
    "order": ("%z : node[1x0e] = add(a=1, 2)", "line 5, column 28: expected an argument with a"),
    "function": (
        "%z : node[1x0e] = linear(%y)",
        "line 5, column 19: op linear has no function of its own: say in braces what is called",
    ),
    "call": ("%z : node[1x0e] = linear {b}", "line 5, column 29: expected arguments in brackets"),
    "parameter": ("%z : param[2] = parameter", "line 5, column 26: expected the path of the"),
    "rest": ("%z : node[1x0e] = neg(%y) 7", "line 5, column 27: expected the end of the line"),
    "cost": ("%z : node[1x0e] = neg(%y) ; 7 params", "line 5, column 31: expected 'blocks,'"),
    "axis": ("axis a channel", "line 5, column 8: expected ':', got 'channel'"),
    "return": ("return %nothing", "line 5, column 8: %nothing is used before it is made"),
    "tuple": ("return (%y)", "line 5, column 11: expected a comma before ')': a tuple of one"),
}


@pytest.mark.parametrize("what", BAD)
def test_errors_name_line_and_column(what):
    line, message = BAD[what]
    with pytest.raises(TextError) as caught:
        parse(f"{GOOD}\n{line}\n")
    assert str(caught.value).startswith(message), str(caught.value)


def test_comments_and_empty_lines_say_nothing():
    assert [s.name for s in parse(GOOD).statements] == ["x", "y"]
