"""What all layers of ``cuequivariance_torch`` share: irreps of its groups, layouts, polynomials.

A layer holds the segmented polynomial that it evaluates, with its coefficients. That polynomial is
what ops read and cut: nothing is recomputed, so a smaller layer has the very coefficients of the
original, whatever convention or precision these were made in.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from irprune.errors import UnknownForm, UsageError
from irprune.irreps import IrrepsType, Layout, Segment
from irprune.ops.base import Site


def type_of(irreps: Any, layout: Any) -> IrrepsType:
    """``cue.Irreps`` in one of cuEquivariance's layouts; irreps of SO3 count as even.

    Raises:
        UnknownForm: irreps of another group; names it.
    """
    import cuequivariance as cue

    group = irreps.irrep_class
    if not issubclass(group, (cue.O3, cue.SO3)):
        raise UnknownForm(f"irreps of the group {group.__name__}; known are O3 and SO3")
    parities = [ir.p if issubclass(group, cue.O3) else 1 for _, ir in irreps]
    segments = tuple(
        Segment(int(mul), int(ir.l), int(p)) for (mul, ir), p in zip(irreps, parities, strict=True)
    )
    return IrrepsType(segments, Layout(layout.name))


def expected(irreps: Any, layout: Any) -> str | None:
    """Irreps that a layer takes in the layout ``mul_ir``; None for another layout or group."""
    try:
        t = type_of(irreps, layout)
    except UnknownForm:
        return None
    return t.irreps if t.layout is Layout.MUL_IR else None


def irreps_of(t: IrrepsType, group: Any) -> Any:
    """The segments of a type as ``cue.Irreps`` of a group."""
    import cuequivariance as cue

    parity = issubclass(group, cue.O3)
    made = [(s.mul, group(l=s.l, p=s.p) if parity else group(l=s.l)) for s in t]
    return cue.Irreps(group, made)


def _groups() -> Mapping[str, Any]:
    import cuequivariance as cue
    from cuequivariance.group_theory.experimental.e3nn import O3_e3nn

    return {"O3": cue.O3, "SO3": cue.SO3, "O3_e3nn": O3_e3nn}


def group_name(irreps: Any) -> str:
    """The name under which a graph file knows the group of irreps.

    Raises:
        UsageError: a group that a file cannot name.
    """
    name: str = irreps.irrep_class.__name__
    if name not in _groups():
        raise UsageError(
            f"irreps of the group {name} cannot be written to a graph file; known are"
            f" {', '.join(_groups())}"
        )
    return name


def irreps_named(group: str, text: str) -> Any:
    """``cue.Irreps`` as a graph file says them, the inverse of ``group_name`` and ``str``."""
    return irreps_of(IrrepsType.parse(text), _groups()[group])


def layout_named(name: str) -> Any:
    """cuEquivariance's layout ``mul_ir`` or ``ir_mul``."""
    import cuequivariance as cue

    return getattr(cue, name)


def described(site: Site) -> Any:
    """The ``cue.SegmentedPolynomial`` that a layer evaluates.

    Raises:
        UnknownForm: the installed package does not keep it, or the layer computes in one dtype
            whatever its inputs are, so that the masked and the sliced layer cannot be compared.
    """
    m: Any = site.module
    found = getattr(m.f, "_polynomial_orig", None)
    if found is None:
        raise UnknownForm(
            f"{site.where}: this version of cuequivariance-torch does not keep the polynomial of a"
            " layer; 0.13 does"
        )
    fixed = math_dtype(m)
    if fixed not in (None, "float64"):
        raise UnknownForm(
            f"{site.where} computes in {fixed} whatever its inputs are (math_dtype); make it without"
            " math_dtype and with the method naive or uniform_1d"
        )
    return found


def math_dtype(module: Any) -> str | None:
    """The dtype that a layer computes in; None where it is that of the inputs."""
    fixed = getattr(module.f, "_math_dtype_orig", None)
    return None if fixed is None else str(fixed).removeprefix("torch.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the advice that cuEquivariance's constructors print: the original layer has had it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def put(module: Any, polynomial: Any, method: str, where: str = "") -> None:
    """Makes a layer evaluate ``polynomial``, by ``method`` where its segments allow that.

    The method ``uniform_1d`` wants all segments alike. Where those that are kept are not, the layer
    runs ``naive``, with a warning.
    """
    from cuequivariance_torch import SegmentedPolynomial

    dtype = math_dtype(module)
    if method == "uniform_1d" and not is_uniform(polynomial):
        warnings.warn(
            f"{where or 'a layer'}: its segments are not all alike any more, so that the method"
            " uniform_1d of cuEquivariance cannot run it; it runs naive",
            stacklevel=2,
        )
        method = "naive"
    with quiet():
        module.f = SegmentedPolynomial(polynomial, method=method, math_dtype=dtype)
    module.method = method


def is_uniform(polynomial: Any) -> bool:
    """Whether all segments have one shape and share one mode."""
    flat = polynomial.flatten_coefficient_modes().squeeze_modes()
    modes = {len(d.subscripts.modes()) for _, d in flat.operations}
    return bool(flat.all_same_segment_shape()) and modes == {1}


def polynomial_to_json(polynomial: Any) -> list[Any]:
    """Operations of a polynomial as JSON-able values."""
    return [[list(op.buffers), _plain(d.to_dict())] for op, d in polynomial.operations]


def polynomial_from_json(operations: Sequence[Any], n_inputs: int) -> Any:
    """The inverse of :func:`polynomial_to_json`."""
    import cuequivariance as cue

    operands: dict[int, Any] = {}
    made = []
    for buffers, data in operations:
        d = cue.SegmentedTensorProduct.from_subscripts(data["subscripts"])
        for k, operand in enumerate(data["operands"]):
            d.add_segments(k, [tuple(s) for s in operand["segments"]])
        paths = data["paths"]
        for indices, c in zip(paths["indices"], paths["coefficients"], strict=True):
            d.add_path(*indices, c=np.array(c))
        operands.update(zip(buffers, d.operands, strict=True))
        made.append((cue.Operation(tuple(buffers)), d))
    ordered = [operands[b] for b in sorted(operands)]
    return cue.SegmentedPolynomial(ordered[:n_inputs], ordered[n_inputs:], made)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def spec_of(module: Any, irreps: Sequence[Any], layouts: Sequence[Any]) -> dict[str, Any]:
    """The entries of a spec that all layers have.

    The polynomial is written out: another installation may choose other coefficients.
    """
    return {
        "group": group_name(irreps[0]),
        "irreps": [type_of(i, layout_named("mul_ir")).irreps for i in irreps],
        "layouts": [layout.name for layout in layouts],
        "method": module.method,
        "math_dtype": math_dtype(module),
        "polynomial": polynomial_to_json(module.f._polynomial_orig),
    }
