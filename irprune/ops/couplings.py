"""e3nn tensor products as PathSpecs, with the coefficients that the module itself holds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from e3nn import o3

from irprune.errors import LegalityError
from irprune.irreps import Segment
from irprune.ops.tensor_product import paths_of
from irprune.specs.path import Coupling, PathSpec, SpecPath


def path_spec(m: o3.TensorProduct) -> PathSpec:
    """The PathSpec of a tensor product with weights per row.

    Raises:
        LegalityError: a PathSpec cannot say it; names why.
    """
    if m.internal_weights or m.shared_weights:
        raise LegalityError("its weights are inside, not one row per edge")
    tables = {
        name.rsplit("._w3j_")[-1] if "._w3j_" in name else name.removeprefix("_w3j_"): b
        for name, b in m.named_buffers()
        if "_w3j_" in name
    }
    in1, in2, out = (
        tuple(Segment(mul, ir.l, ir.p) for mul, ir in irreps)
        for irreps in (m.irreps_in1, m.irreps_in2, m.irreps_out)
    )
    made = []
    for p in paths_of(m):
        if p.mode != "uvu" or not p.weighted:
            raise LegalityError(
                f"path {p.i1} x {p.i2} -> {p.out} has mode {p.mode}"
                f"{'' if p.weighted else ' and no weights'}; known is uvu with weights"
            )
        if in2[p.i2].mul != 1:
            raise LegalityError(f"its second factor has {in2[p.i2].mul} copies of {in2[p.i2].ir}")
        orders = (in1[p.i1].l, in2[p.i2].l, out[p.out].l)
        made.append(
            SpecPath(p.i1, p.i2, p.out, p.weights.start, p.coefficient, coupling_of(orders, tables))
        )
    return PathSpec(in1, in2, out, tuple(made), int(m.weight_numel))


def coupling_of(orders: tuple[int, int, int], tables: Mapping[str, torch.Tensor]) -> Coupling:
    """Clebsch-Gordan coefficients as e3nn's generated code has them.

    Where one order is zero that code divides by √(2l+1) and holds no table.

    Raises:
        LegalityError: the module holds no table for these orders.
    """
    a, b, c = orders
    if 0 in orders:
        order = max(orders)
        value = 1.0 / math.sqrt(2 * order + 1)
        return tuple(
            (m if a else 0, m if b else 0, m if c else 0, value) for m in range(2 * order + 1)
        )
    table = tables.get(f"{a}_{b}_{c}")
    if table is None:
        raise LegalityError(f"it holds no coefficients for the orders {a} x {b} -> {c}")
    values = table.detach().double()
    return tuple(
        (int(i), int(j), int(k), float(values[i, j, k])) for i, j, k in values.nonzero().tolist()
    )
