"""IrrepsType: parsing, units, masks, layouts."""

from __future__ import annotations

import numpy as np
import pytest

from irprune.errors import UsageError
from irprune.irreps import IrrepsType, Layout, Segment, Space


@pytest.mark.parametrize(
    ("text", "segments", "printed"),
    [
        ("128x0e+64x1o", ((128, 0, 1), (64, 1, -1)), "128x0e+64x1o"),
        ("0e", ((1, 0, 1),), "1x0e"),
        (" 2 x 3o + 1e ", ((2, 3, -1), (1, 1, 1)), "2x3o+1x1e"),
        ("0x1o+2x0e", ((0, 1, -1), (2, 0, 1)), "0x1o+2x0e"),
        ("12x10e", ((12, 10, 1),), "12x10e"),
        ("", (), ""),
    ],
)
def test_parse_and_print(text, segments, printed):
    t = IrrepsType.parse(text)
    assert t.segments == segments
    assert t.irreps == printed
    assert IrrepsType.parse(printed) == t


@pytest.mark.parametrize("term", ["64x", "1x1", "1u", "-1x0e", "0.5x0e", "x1o", "64*1o", "1e1o"])
def test_bad_term(term):
    with pytest.raises(UsageError) as caught:
        IrrepsType.parse(f"2x0e+{term}")
    assert str(caught.value) == (
        f"cannot read irreps '2x0e+{term}': '{term}' is not of the form 64x1o"
        " (multiplicity, x, order l, parity e or o)"
    )


def test_str_names_space_and_layout():
    assert str(IrrepsType.parse("2x0e+1x1o")) == "node[2x0e+1x1o]"
    wide = IrrepsType.parse("2x0e+2x1o", Space.EDGE, Layout.MUL_X_DIM)
    assert str(wide) == "edge[2x0e+2x1o mul_x_dim]"


def test_mul_x_dim_needs_one_channel_count():
    with pytest.raises(UsageError) as caught:
        IrrepsType.parse("2x0e+1x1o", layout=Layout.MUL_X_DIM)
    assert str(caught.value) == (
        "layout mul_x_dim needs the same number of channels in every order, got 2x0e+1x1o"
    )


def test_sizes():
    t = IrrepsType.parse("2x0e+3x1o+1x2e")
    assert (t.n_units, t.dim, t.lmax, t.starts) == (6, 16, 2, (0, 2, 5, 6))
    assert t.units(1) == slice(2, 5)
    assert t.unit_dims.tolist() == [1, 1, 3, 3, 3, 5]
    assert t.unit_irs == ((0, 1), (0, 1), (1, -1), (1, -1), (1, -1), (2, 1))
    assert [str(s) for s in t] == ["2x0e", "3x1o", "1x2e"]
    assert Segment(3, 1, -1).ir == "1o"


def test_empty():
    t = IrrepsType.parse("")
    assert (t.n_units, t.dim, t.lmax, t.starts) == (0, 0, -1, (0,))
    assert t.components(np.zeros(0, bool)).shape == (0,)


def test_same_units_is_about_order_and_layout_not_splitting():
    t = IrrepsType.parse("2x0e+3x0e+1x1o")
    assert t != IrrepsType.parse("5x0e+1x1o")
    assert t.same_units(IrrepsType.parse("5x0e+1x1o"))
    assert t.same_units(IrrepsType.parse("5x0e+1x1o", Space.EDGE))
    assert not t.same_units(IrrepsType.parse("1x1o+5x0e"))
    assert not t.same_units(IrrepsType.parse("5x0e+1x1e"))
    row = IrrepsType.scalars(1)
    assert not row.same_units(IrrepsType(row.segments, Layout.ROWS))


def test_ir_mul_is_another_order_of_a_row():
    t = IrrepsType.parse("1x0e+2x1o", layout=Layout.IR_MUL)
    assert str(t) == "node[1x0e+2x1o ir_mul]"
    assert t.component_units.tolist() == [0, 1, 2, 1, 2, 1, 2]
    assert t.by_copy.tolist() == [0, 1, 3, 5, 2, 4, 6]
    mask = np.array([True, False, True])
    assert np.flatnonzero(t.components(mask)).tolist() == [0, 2, 4, 6]
    assert not t.same_units(IrrepsType.parse("1x0e+2x1o"))


def test_in_ir_mul_the_split_of_segments_matters_but_for_scalars():
    def t(text):
        return IrrepsType.parse(text, layout=Layout.IR_MUL)

    assert not t("3x1o").same_units(t("2x1o+1x1o"))
    assert t("2x0e+3x0e+2x1o").same_units(t("5x0e+2x1o"))


@pytest.mark.parametrize("text", ["5x0e+2x0o", "1x1o+1x2e", "3x0e+1x1o", ""])
def test_what_lies_in_memory_alike_is_mul_ir(text):
    assert IrrepsType.parse(text, layout=Layout.IR_MUL) == IrrepsType.parse(text)


def test_ir_mul_of_which_single_copies_stay_is_mul_ir():
    t = IrrepsType.parse("1x0e+2x1o", layout=Layout.IR_MUL)
    assert t.kept(np.array([True, True, False])).layout is Layout.MUL_IR


def test_kept_and_components():
    t = IrrepsType.parse("2x0e+2x1o+1x2e", Space.EDGE)
    mask = np.array([True, False, False, True, False])
    assert str(t.kept(mask)) == "edge[1x0e+1x1o]"
    assert t.kept(mask, drop_empty=False).irreps == "1x0e+1x1o+0x2e"
    assert t.components(mask).nonzero()[0].tolist() == [0, 5, 6, 7]
    assert [m.tolist() for m in t.split(mask)] == [[True, False], [False, True], [False]]


def test_kept_keeps_the_split():
    t = IrrepsType.parse("2x0e+2x0e")
    assert t.kept(np.array([True, False, True, True])).irreps == "1x0e+2x0e"


def test_in_space_and_counts():
    t = IrrepsType.parse("2x0e+3x1o+4x0e")
    assert t.in_space(Space.NODE) is t
    assert t.in_space(Space.GRAPH).space is Space.GRAPH
    assert t.counts() == {"0e": 6, "1o": 3}
    assert IrrepsType.of([(2, 0, 1), (3, 1, -1), (4, 0, 1)]) == t
