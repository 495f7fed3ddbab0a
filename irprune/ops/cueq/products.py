"""``cuequivariance_torch``'s ChannelWiseTensorProduct and FullyConnectedTensorProduct."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType
from irprune.ops import folds
from irprune.ops.base import Keep, Site, register_op
from irprune.ops.connection import Path, weight_mask
from irprune.ops.constants import in_dtype_of
from irprune.ops.cueq import modules
from irprune.ops.linear import pick
from irprune.ops.path_product import PathProduct, Product, kept_type

if TYPE_CHECKING:
    from irprune.blocks import Coupler

SAME = 1e-14
"""Largest relative difference of equal coefficients."""


@dataclass(frozen=True, eq=False)
class Term:
    """One path of a descriptor, in its own order: segments, and coefficients [i, j, k]."""

    weight: int
    i1: int
    i2: int
    out: int
    shape: tuple[int, ...]
    """Of its weights."""
    coefficients: NDArray[np.float64]

    @property
    def joins(self) -> tuple[int, int, int]:
        return self.i1, self.i2, self.out

    @property
    def size(self) -> float:
        """e3nn's coefficient of the same path: its Clebsch-Gordan coefficients have norm 1."""
        return float(np.linalg.norm(self.coefficients))


def terms_of(polynomial: Any) -> list[Term]:
    """The paths of a descriptor, in the order of their weights."""
    ((_, d),) = polynomial.operations
    shapes = d.operands[0].segments
    made = []
    for p in d.paths:
        weight, i1, i2, out = p.indices
        made.append(Term(weight, i1, i2, out, tuple(shapes[weight]), p.coefficients))
    return sorted(made, key=lambda t: t.weight)


class CueProduct(PathProduct):
    """A product with weights on all paths, inside or one set per row, in either flat layout."""

    mode: ClassVar[str]
    subscripts: ClassVar[str]

    @abstractmethod
    def make(self, irreps: Sequence[Any], options: dict[str, Any]) -> Any:
        """The layer as cuEquivariance makes it for the irreps of both operands and the result."""

    @abstractmethod
    def result_shape(
        self, out: int, types: Sequence[IrrepsType], terms: Sequence[Term]
    ) -> tuple[int, ...]:
        """The shape of a segment of the result in the descriptor."""

    def _module(self, site: Site) -> Any:
        m: Any = site.module
        expected = 2 if m.internal_weights else 3
        given = [a for a in site.node.args if a is not None]
        plain = len(given) == expected and not site.node.kwargs
        if not plain or len(site.operands) != expected or (expected == 3 and m.shared_weights):
            raise UnknownForm(
                f"{site.where}: a tensor product of cuEquivariance (weights internal:"
                f" {m.internal_weights}, shared: {m.shared_weights}) was called with"
                f" {len(site.operands)} operands; known are internal weights, or weights per row, and"
                " rows that are gathered and scattered outside (no indices_1, indices_2, indices_out)"
            )
        return m

    def product(self, site: Site) -> Product:
        m = self._module(site)
        return self._read(m, modules.described(site))

    def _read(self, m: Any, polynomial: Any) -> Product:
        offset, paths = 0, []
        for t in terms_of(polynomial):
            paths.append(Path(*t.joins, self.mode, True, t.size, t.shape, offset))
            offset += paths[-1].numel
        return Product(
            modules.type_of(m.irreps_in1, m.transpose_in1.source),
            modules.type_of(m.irreps_in2, m.transpose_in2.source),
            modules.type_of(m.irreps_out, m.transpose_out.target),
            tuple(paths),
            bool(m.internal_weights),
        )

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        m: Any = module
        first = modules.expected(m.irreps_in1, m.transpose_in1.source)
        return (first, modules.expected(m.irreps_in2, m.transpose_in2.source))

    def couple(self, site: Site, c: Coupler) -> None:
        """As for every product; and cuEquivariance cannot build one without a path."""
        super().couple(site, c)
        t, axis = self.product(site), c.axis("path")
        sides = ((t.in1, c.operand(0)), (t.in2, c.operand(1)), (t.out, c.out))
        for k, p in enumerate(t.paths):
            for (kind, ids), segment in zip(sides, (p.i1, p.i2, p.out), strict=True):
                c.some(ids[kind.units(segment)], axis[k : k + 1])

    def weight(self, module: nn.Module) -> Tensor:
        made: Tensor = module.weight[0]  # type: ignore[index]
        return made

    def run(self, module: nn.Module, x1: Tensor, x2: Tensor, weight: Tensor | None) -> Tensor:
        m: Any = module
        assert weight is not None
        rows = weight if weight.dim() == 2 else weight[None]
        (out,) = m.f([rows, m.transpose_in1(x1), m.transpose_in2(x2)])
        made: Tensor = m.transpose_out(out)
        return made

    def couplings(self, module: nn.Module) -> Sequence[Tensor]:
        m: Any = module
        return [torch.from_numpy(t.coefficients) for t in terms_of(m.f._polynomial_orig)]

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        """A layer that cuEquivariance makes for the kept irreps, with its norms folded into weights.

        Where it has other paths than those that are kept, or weights per row, which cannot take a
        norm, the layer gets the kept paths with the coefficients of the original.
        """
        m = self._module(site)
        t = self.product(site)
        masks = (keep.operand(0), keep.operand(1), keep.result)
        types, index = zip(
            *(kept_type(x, k) for x, k in zip((t.in1, t.in2, t.out), masks, strict=True)),
            strict=True,
        )
        a, b, o = (x.split(k) for x, k in zip((t.in1, t.in2, t.out), masks, strict=True))
        kept = [
            (p, Term(0, index[0][p.i1], index[1][p.i2], index[2][p.out], (), term.coefficients))
            for k, (p, term) in enumerate(
                zip(t.paths, terms_of(m.f._polynomial_orig), strict=True)
            )
            if keep.axes["path"][k]
            and p.i1 in index[0] and p.i2 in index[1] and p.out in index[2]
        ]  # fmt: skip
        new, group = [term for _, term in kept], m.irreps_in1.irrep_class
        with in_dtype_of(m):
            small = self.make([modules.irreps_of(x, group) for x in types], self._options(m))
        made = terms_of(small.f._polynomial_orig)
        ratios = [1.0] * len(kept)
        if t.internal and _proportional(new, made):
            ratios = [folds.segmented_path(x.size, y.size) for x, y in zip(new, made, strict=True)]
            modules.put(small, small.f._polynomial_orig, m.method, site.where)
        else:
            self._set(small, types[2], self._descriptor(types, new), m.method, site.where)
        if t.internal:
            weight = self.weight(m).detach()
            parts = [
                pick(weight[p.weights], weight_mask(p.mode, a[p.i1], b[p.i2], o[p.out]).reshape(-1))
                * ratio
                for (p, _), ratio in zip(kept, ratios, strict=True)
            ]
            with torch.no_grad():
                small.weight.copy_(torch.cat(parts)[None])
        made_on: nn.Module = small.to(_device(m))
        return made_on

    def _options(self, m: Any) -> dict[str, Any]:
        return {
            "layout_in1": m.transpose_in1.source,
            "layout_in2": m.transpose_in2.source,
            "layout_out": m.transpose_out.target,
            "shared_weights": m.shared_weights,
            "internal_weights": m.internal_weights,
            "math_dtype": modules.math_dtype(m),
        }

    def _descriptor(self, types: Sequence[IrrepsType], terms: Sequence[Term]) -> Any:
        """The polynomial of these paths, whose weights follow each other."""
        import cuequivariance as cue

        in1, in2, out = types
        d = cue.SegmentedTensorProduct.from_subscripts(self.subscripts)
        d.add_segments(1, [(s.dim, s.mul) for s in in1])
        d.add_segments(2, [(s.dim, s.mul) for s in in2])
        d.add_segments(3, [self.result_shape(k, types, terms) for k in range(len(out.segments))])
        for term in terms:
            muls = (in1.segments[term.i1].mul, in2.segments[term.i2].mul)
            shape = (*muls, out.segments[term.out].mul) if self.mode == "uvw" else muls
            d.add_path(shape, *term.joins, c=term.coefficients)
        return cue.SegmentedPolynomial.eval_last_operand(d)

    def _set(self, m: Any, out: IrrepsType, polynomial: Any, method: str, where: str) -> None:
        """Gives a layer the polynomial, with the result and the weights that belong to it."""
        import cuequivariance as cue
        from cuequivariance_torch import TransposeIrrepsLayout

        modules.put(m, polynomial, method, where)
        m.irreps_out = modules.irreps_of(out, m.irreps_in1.irrep_class)
        m.weight_numel = int(polynomial.inputs[0].size)
        target = m.transpose_out.target
        m.transpose_out = TransposeIrrepsLayout(m.irreps_out, source=cue.ir_mul, target=target)
        if m.internal_weights:
            m.weight = nn.Parameter(torch.zeros(1, m.weight_numel, dtype=m.weight.dtype))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        options = self._options(m)
        layouts = [options[k] for k in ("layout_in1", "layout_in2", "layout_out")]
        irreps = (m.irreps_in1, m.irreps_in2, m.irreps_out)
        return {
            **modules.spec_of(m, irreps, layouts),
            "internal": bool(m.internal_weights),
            "shared": bool(m.shared_weights),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        irreps = [modules.irreps_named(spec["group"], t) for t in spec["irreps"]]
        layouts = [modules.layout_named(name) for name in spec["layouts"]]
        options = {
            **dict(zip(("layout_in1", "layout_in2", "layout_out"), layouts, strict=True)),
            "shared_weights": spec["shared"],
            "internal_weights": spec["internal"],
            "math_dtype": spec["math_dtype"],
        }
        made: nn.Module = self.make(irreps, options)
        polynomial = modules.polynomial_from_json(spec["polynomial"], 3)
        self._set(made, modules.type_of(irreps[2], layouts[2]), polynomial, spec["method"], "")
        return made


def _proportional(old: Sequence[Term], new: Sequence[Term]) -> bool:
    """Whether both are the same paths, with coefficients that differ by a factor for each path."""
    return [t.joins for t in old] == [t.joins for t in new] and all(
        np.allclose(a.coefficients / a.size, b.coefficients / b.size, rtol=0, atol=SAME)
        for a, b in zip(old, new, strict=True)
    )


def _device(m: nn.Module) -> torch.device:
    tensors = [*m.parameters(), *m.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


@register_op
class CueChannelWise(CueProduct):
    """Copy u of the first operand with copy v of the second, each path into a result of its own."""

    name = "cue-channelwise"
    targets = ("cuequivariance_torch.operations.tp_channel_wise.ChannelWiseTensorProduct",)
    mode = "uvuv"
    subscripts = "uv,iu,jv,kuv+ijk"

    def make(self, irreps: Sequence[Any], options: dict[str, Any]) -> Any:
        from cuequivariance_torch import ChannelWiseTensorProduct

        wanted = list(dict.fromkeys(ir for _, ir in irreps[2]))
        dtype = torch.get_default_dtype()
        with modules.quiet():
            return ChannelWiseTensorProduct(
                irreps[0], irreps[1], wanted, dtype=dtype, method="naive", **options
            )

    def result_shape(
        self, out: int, types: Sequence[IrrepsType], terms: Sequence[Term]
    ) -> tuple[int, ...]:
        (term,) = (term for term in terms if term.out == out)
        first, second = types[0].segments[term.i1], types[1].segments[term.i2]
        return (types[2].segments[out].dim, first.mul, second.mul)


@register_op
class CueFullyConnected(CueProduct):
    """All copies of both operands into all copies of the result."""

    name = "cue-fully-connected"
    targets = ("cuequivariance_torch.operations.tp_fully_connected.FullyConnectedTensorProduct",)
    mode = "uvw"
    subscripts = "uvw,iu,jv,kw+ijk"

    def make(self, irreps: Sequence[Any], options: dict[str, Any]) -> Any:
        from cuequivariance_torch import FullyConnectedTensorProduct

        dtype = torch.get_default_dtype()
        with modules.quiet():
            return FullyConnectedTensorProduct(*irreps, dtype=dtype, method="naive", **options)

    def result_shape(
        self, out: int, types: Sequence[IrrepsType], terms: Sequence[Term]
    ) -> tuple[int, ...]:
        s = types[2].segments[out]
        return (s.dim, s.mul)
