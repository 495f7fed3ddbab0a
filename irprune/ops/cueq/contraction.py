"""``cuequivariance_torch.SymmetricContraction``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from irprune.errors import ExactnessError, IrrepsTypeError, UnknownForm
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import Cost, Keep, Needs, OpDef, Other, Site, Trait, register_op
from irprune.ops.constants import in_dtype_of
from irprune.ops.cueq import modules
from irprune.ops.linear import pick
from irprune.ops.path_product import segments_of

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@dataclass(frozen=True)
class Term:
    """One product of a contraction: weight · coefficient · Π x[components], into one component."""

    weight: int
    factors: tuple[int, ...]
    out: int
    value: float


@dataclass(frozen=True)
class Contraction:
    """The two types of a contraction, and its products."""

    takes: IrrepsType
    gives: IrrepsType
    terms: tuple[Term, ...]
    n_weights: int
    """Per element and channel."""

    @property
    def orders(self) -> tuple[BoolMask, BoolMask]:
        """[terms, input segments]: which a term multiplies; [terms, output segments]: where it goes."""
        read = np.zeros((len(self.terms), len(self.takes.segments)), bool)
        made = np.zeros((len(self.terms), len(self.gives.segments)), bool)
        into = np.repeat(np.arange(len(self.gives.segments)), [s.dim for s in self.gives])
        came = np.repeat(np.arange(len(self.takes.segments)), [s.dim for s in self.takes])
        for k, t in enumerate(self.terms):
            read[k, came[list(t.factors)]] = True
            made[k, into[t.out]] = True
        return read, made

    def weights_of(self, outs: BoolMask) -> BoolMask:
        """The weights that lead to some of the output orders, [n_weights]."""
        found = np.zeros(self.n_weights, bool)
        hit = np.asarray(self.orders[1][:, outs].any(axis=1), bool)
        found[[t.weight for t, h in zip(self.terms, hit, strict=True) if h]] = True
        return found


def terms_of(polynomial: Any) -> tuple[Term, ...]:
    """The paths of a descriptor whose segments are single components of all channels.

    Raises:
        UnknownForm: another descriptor.
    """
    found = []
    for op, d in polynomial.operations:
        degree = d.num_operands - 2
        if op.buffers != (0, *[1] * degree, 2) or str(d.subscripts) != ",".join("u" * (degree + 2)):
            raise UnknownForm(f"a contraction with the descriptor {d.subscripts} is not known")
        for p in d.paths:
            weight, *factors, out = p.indices
            found.append(Term(weight, tuple(factors), out, float(p.coefficients)))
    return tuple(found)


@register_op
class CueContraction(OpDef):
    """Products of up to ν values per channel, weighted by element; ``order_out`` are output orders.

    Inputs: rows [N, Σ K(2l+1)] in either layout, and the index of each row's element [N]. A channel
    goes in all its orders at once. Copy k of an output order exists exactly when channel k and the
    order do.
    """

    name = "cue-contraction"
    row_wise = True
    targets = ("cuequivariance_torch.operations.symmetric_contraction.SymmetricContraction",)
    trait = Trait.EXACT

    def contraction(self, site: Site) -> Contraction:
        m: Any = site.module
        polynomial = modules.described(site)
        return Contraction(
            modules.type_of(m.irreps_in, m.transpose_in.source),
            modules.type_of(m.irreps_out, m.transpose_out.target),
            terms_of(polynomial),
            polynomial.inputs[0].num_segments,
        )

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        m: Any = module
        return (modules.expected(m.irreps_in, m.transpose_in.source), None)

    def infer(self, site: Site) -> Any:
        c = self.contraction(site)
        t = site.expect_type(0, c.takes)
        if not isinstance(site.types[1], Other) or site.types[1].kind != "index":
            raise IrrepsTypeError(
                f"{site.where} expects the index of an element per row as operand 1, but"
                f" {site.operands[1].name} gives {site.types[1]}"
            )
        return c.gives.in_space(t.space)

    def axes(self, site: Site) -> dict[str, int]:
        return {"order_out": len(self.contraction(site).gives.segments)}

    def couple(self, site: Site, c: Coupler) -> None:
        t = self.contraction(site)
        channel, *others = (c.operand(0)[t.takes.units(i)] for i in range(len(t.takes.segments)))
        for ids in others:
            c.same(channel, ids)
        order = c.axis("order_out")
        c.product(c.out, np.tile(channel, len(order)), np.repeat(order, len(channel)))
        c.some(order[t.orders[1].any(axis=0)], order)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        t = self.contraction(site)
        assert nz[0] is not None
        alive = nz[0].reshape(len(t.takes.segments), -1)
        read, made = t.orders
        # a term is zero in channel k where one of its factors is
        live = (read.astype(np.int64) @ (~alive).astype(np.int64)) == 0
        out = (made.astype(np.int64).T @ live.astype(np.int64)) > 0
        return np.asarray(out & axes["order_out"][:, None]).reshape(-1)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        t = self.contraction(site)
        assert need is not None and nz[0] is not None
        alive = nz[0].reshape(len(t.takes.segments), -1)
        wanted = need.reshape(len(t.gives.segments), -1) & axes["order_out"][:, None]
        read, made = (x.astype(np.int64) for x in t.orders)
        live = ((read @ (~alive).astype(np.int64)) == 0) & ((made @ wanted.astype(np.int64)) > 0)
        inputs = (read.T @ live.astype(np.int64)) > 0
        used = (made.T @ live.astype(np.int64)).sum(axis=1) > 0
        return [inputs.reshape(-1), *[None] * (len(nz) - 1)], {"order_out": used}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        """Fewer channels and output orders; the products and the coefficients are the original's.

        Raises:
            ExactnessError: the mask does not keep whole channels, or keeps none of the products.
        """
        m: Any = site.module
        t = self.contraction(site)
        orders = keep.operand(0).reshape(len(t.takes.segments), -1)
        channels, outs = orders[0], keep.axes["order_out"]
        weights = t.weights_of(outs)
        if (orders != channels).any() or not weights.any():
            raise ExactnessError(
                f"{site.where} can only shrink by whole channels and output orders, of which one has"
                " products; the mask keeps different channels in different orders, or nothing"
            )
        groups = m.irreps_in.irrep_class
        takes, gives = t.takes.kept(keep.operand(0)), t.gives.kept(keep.result)
        with in_dtype_of(m):
            small = self.make(
                (modules.irreps_of(takes, groups), modules.irreps_of(gives, groups)),
                m.contraction_degree, m.num_elements, self._layouts(m), modules.math_dtype(m),
            )  # fmt: skip
        modules.put(small, _cut(m.f._polynomial_orig, t, channels, outs), m.method, site.where)
        small.etp = _equivariant(small)
        weight = m.weight.detach()
        if m.projection is None:
            weight = pick(weight, np.ones(len(weight), bool), weights, channels)
        else:
            rows = _rows(m, weights)
            _project(small, pick(m.projection, rows, weights))
            weight = pick(weight, np.ones(len(weight), bool), rows, channels)
        small.weight = nn.Parameter(weight.clone())
        small.weight_shape = tuple(weight.shape[1:])
        made: nn.Module = small.to(weight.device)
        return made

    @staticmethod
    def _layouts(m: Any) -> tuple[Any, Any]:
        return m.transpose_in.source, m.transpose_out.target

    @staticmethod
    def make(
        irreps: Sequence[Any], degree: int, elements: int, layouts: Sequence[Any], dtype: str | None
    ) -> Any:
        """A layer as cuEquivariance makes it, without MACE's redundant weights."""
        from cuequivariance_torch import SymmetricContraction

        with modules.quiet():
            return SymmetricContraction(
                *irreps, degree, elements, layout_in=layouts[0], layout_out=layouts[1],
                dtype=torch.get_default_dtype(), math_dtype=dtype, method="naive",
            )  # fmt: skip

    def cost(self, site: Site, keep: Keep) -> Cost:
        m: Any = site.module
        t = self.contraction(site)
        channels = int(keep.operand(0).reshape(len(t.takes.segments), -1).any(axis=0).sum())
        outs = keep.axes["order_out"]
        weights = t.weights_of(outs)
        rows = int((weights if m.projection is None else _rows(m, weights)).sum())
        live = np.asarray(t.orders[1][:, outs].any(axis=1), bool)
        flops = sum(len(x.factors) + 2 for x, on in zip(t.terms, live, strict=True) if on)
        return Cost(int(m.num_elements) * rows * channels, float(flops * channels))

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        assert site.module is not None
        out = site.module(*args)
        widths = torch.tensor([s.mul * s.dim for s in site.result], device=out.device)
        return out * axes["order_out"].to(out.dtype).repeat_interleave(widths)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        return {
            **modules.spec_of(m, (m.irreps_in, m.irreps_out), self._layouts(m)),
            "degree": int(m.contraction_degree),
            "elements": int(m.num_elements),
            "projection": None if m.projection is None else list(m.projection.shape),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        irreps = [modules.irreps_named(spec["group"], t) for t in spec["irreps"]]
        layouts = [modules.layout_named(name) for name in spec["layouts"]]
        made = self.make(irreps, spec["degree"], spec["elements"], layouts, spec["math_dtype"])
        polynomial = modules.polynomial_from_json(spec["polynomial"], 2)
        modules.put(made, polynomial, spec["method"])
        made.etp = _equivariant(made)
        rows = polynomial.inputs[0].num_segments
        if spec["projection"] is not None:
            rows = spec["projection"][0]
            _project(made, torch.zeros(spec["projection"]))
        made.weight_shape = (rows, made.weight_shape[1])
        made.weight = nn.Parameter(torch.zeros(spec["elements"], *made.weight_shape))
        built: nn.Module = made
        return built

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        m: Any = site.module
        t, (rows, elements) = self.contraction(site), args
        x = torch.cat(segments_of(rows, t.takes), dim=2)  # [N, K, Σ (2l+1)]
        weight = m.weight.detach()
        if m.projection is not None:
            weight = torch.einsum("zau,ab->zbu", weight, m.projection)
        weight = weight[elements]  # [N, weights, K]
        out = x.new_zeros(len(x), x.shape[1], sum(s.dim for s in t.gives))
        for term in t.terms:
            value = term.value * weight[:, term.weight]
            for i in term.factors:
                value = value * x[:, :, i]
            out[:, :, term.out] = out[:, :, term.out] + value
        parts = out.split([s.dim for s in t.gives], dim=2)
        if t.gives.layout is Layout.IR_MUL:
            parts = [p.transpose(1, 2) for p in parts]
        return torch.cat([p.flatten(1) for p in parts], dim=1)


def _rows(m: Any, weights: BoolMask) -> BoolMask:
    """MACE's redundant weights that reach some of these weights; all, if these are all."""
    if weights.all():
        return np.ones(int(m.projection.shape[0]), bool)
    reach = (m.projection != 0).cpu().numpy()
    return np.asarray(reach[:, weights].any(axis=1), bool)


def _project(m: Any, projection: Tensor) -> None:
    """Gives a layer the matrix from MACE's redundant weights to those of its products."""
    del m.projection  # None
    m.register_buffer("projection", projection)


def _cut(polynomial: Any, t: Contraction, channels: BoolMask, outs: BoolMask) -> Any:
    """The products that lead to the kept orders, for so many channels."""
    import cuequivariance as cue

    k = (int(channels.sum()),)
    weights = t.weights_of(outs)
    components = np.repeat(outs, [s.dim for s in t.gives])
    new_weight, new_out = np.cumsum(weights) - 1, np.cumsum(components) - 1
    sizes = (int(weights.sum()), polynomial.inputs[1].num_segments, int(components.sum()))
    made = []
    for op, d in polynomial.operations:
        small = cue.SegmentedTensorProduct.from_subscripts(str(d.subscripts))
        for operand, buffer in enumerate(op.buffers):
            small.add_segments(operand, [k] * sizes[buffer])
        for p in d.paths:
            weight, *factors, out = p.indices
            if components[out]:
                indices = (int(new_weight[weight]), *factors, int(new_out[out]))
                small.add_path(*indices, c=p.coefficients)
        if small.num_paths:
            made.append((op, small))
    operands = [cue.SegmentedOperand([k] * n) for n in sizes]
    return cue.SegmentedPolynomial(operands[:2], operands[2:], made)


def _equivariant(m: Any) -> Any:
    """The polynomial of a contraction with its irreps, as the class keeps it."""
    import cuequivariance as cue

    polynomial = m.f._polynomial_orig
    weights = m.irreps_in.new_scalars(polynomial.inputs[0].size)
    return cue.EquivariantPolynomial(
        [cue.IrrepsAndLayout(weights, cue.ir_mul), cue.IrrepsAndLayout(m.irreps_in, cue.ir_mul)],
        [cue.IrrepsAndLayout(m.irreps_out, cue.ir_mul)],
        polynomial,
    )
