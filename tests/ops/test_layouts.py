"""Ops of rows in either layout: module against reference, and from the spec again."""

from __future__ import annotations

import json

import pytest
import torch

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout
from irprune.layers.elements import ElementLinear, ElementTable
from irprune.layers.gate import PlainGate
from irprune.layers.layout import ChangeLayout
from irprune.ops.base import LayoutRole, Site, load_builtin_ops, op_of_class
from irprune.ops.gate import plain_gate
from irprune.specs.layout import to_ir_mul, to_mul_ir
from tests.handmade import op_at, single
from tests.ops.cases import by_element, filled, made

pytestmark = pytest.mark.usefixtures("unscripted")

IRREPS = "3x0e+2x1o+1x2e+4x1e"
load_builtin_ops()


def site(module):
    return Site(None, module, (), ())


def rebuilt(module):
    op = op_of_class(type(module))
    other = op.build(json.loads(json.dumps(op.spec(module)))).double()
    other.load_state_dict(module.state_dict(), strict=True)
    assert op.spec(other) == op.spec(module)
    return other


def rows(irreps, n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, IrrepsType.parse(irreps).dim, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("layout", ["ir_mul", "mul_ir"])
def test_change_of_layout(layout):
    module = ChangeLayout(IRREPS, layout)
    x = rows(IRREPS)
    there = module(x)
    assert torch.equal(op_of_class(ChangeLayout).reference(site(module), (x,)), there)
    assert torch.equal(rebuilt(module)(x), there)
    assert torch.equal(ChangeLayout(IRREPS, module.source)(there), x)
    assert not torch.equal(there, x)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("gate", Layout.MUL_IR),
        ("gate", Layout.IR_MUL),
        ("gate-odd", Layout.MUL_IR),
        ("gate-empty", Layout.MUL_IR),
    ],
)
def test_gate(name, layout):
    """What e3nn's gate gives, of rows that lie otherwise."""
    gate, _ = made(name)
    plain = plain_gate(gate, layout)
    first, last = (IrrepsType.parse(t).segments for t in (plain.irreps_in, plain.irreps_out))
    x = rows(plain.irreps_in)
    moved = to_ir_mul(x, first) if layout is Layout.IR_MUL else x
    got = plain(moved)
    wanted = gate(x)
    if layout is Layout.IR_MUL:
        wanted = to_ir_mul(wanted, last)
    assert torch.allclose(got, wanted, rtol=0, atol=1e-14)
    reference = op_of_class(PlainGate).reference(site(plain), (moved,))
    assert torch.allclose(reference, got, rtol=0, atol=1e-14)
    assert torch.equal(rebuilt(plain)(moved), got)


def test_a_gate_that_splits_what_it_gates():
    """By the parity of the gates: in ir_mul the copies of a component would lie otherwise."""
    gate, inputs = made("gate-odd")
    with pytest.raises(UsageError) as error:
        plain_gate(gate, Layout.IR_MUL)
    assert str(error.value) == (
        "the gate 1x0o+2x0o+1x0e+3x1o -> 1x0o+1x1o+2x1e splits a gated segment: it has no ir_mul"
    )
    op, where = op_at(single(gate, **inputs), "op")
    assert op.layout_role(where) is LayoutRole.FIXED


def test_linear_by_element():
    module = by_element().double()
    moved = ElementLinear(9, module.irreps_in, module.irreps_out, module.paths, Layout.IR_MUL)
    moved.weights = module.weights
    x, species = rows(module.irreps_in, 6), torch.tensor([0, 3, 3, 8, 0, 1])
    got = moved(to_ir_mul(x, module.inputs), species)
    assert torch.allclose(to_mul_ir(got, module.outputs), module(x, species), rtol=0, atol=1e-14)
    given = (to_ir_mul(x, module.inputs), species)
    assert torch.allclose(op_of_class(ElementLinear).reference(site(moved), given), got, atol=1e-14)
    assert torch.allclose(moved.by_operators(*given), got, rtol=0, atol=1e-14)
    assert torch.equal(rebuilt(moved)(*given), got)


def test_table():
    """Its columns lie in the layout; a table of another one is another spec."""
    table = filled(ElementTable(4, IRREPS, layout=Layout.IR_MUL)).double()
    assert op_of_class(ElementTable).spec(table)["layout"] == "ir_mul"
    assert "layout" not in op_of_class(ElementTable).spec(ElementTable(4, IRREPS))
    species = torch.tensor([3, 0])
    assert torch.equal(rebuilt(table)(species), table.table[species])
