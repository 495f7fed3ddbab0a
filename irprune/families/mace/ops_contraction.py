"""The OpDef of MACE's symmetric contraction."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from irprune.errors import ExactnessError, IrrepsTypeError
from irprune.families.mace import contraction, symmetric
from irprune.irreps import BoolMask, IrrepsType, Layout
from irprune.ops.base import Cost, Keep, Needs, OpDef, Site, Trait, register_op
from irprune.specs.poly import PolySpec

if TYPE_CHECKING:
    from irprune.blocks import Coupler


@dataclass(frozen=True)
class Support:
    """Which products of input orders occur in one output order, for one ν."""

    combos: NDArray[np.int64]
    """[n, ν]: input segments."""
    paths: BoolMask
    """[n, P]: whether the path has the combination."""

    def alive(self, orders: BoolMask) -> BoolMask:
        """Combinations whose factors are all in ``orders``, [n]."""
        return np.asarray(orders[self.combos].all(axis=1), bool)


_SUPPORT: WeakKeyDictionary[nn.Module, list[dict[int, Support]]] = WeakKeyDictionary()


def support_of(module: nn.Module) -> list[dict[int, Support]]:
    """For each output order: ν → support, read from the module's own tensors."""
    found = _SUPPORT.get(module)
    if found is None:
        irreps: Any = module.irreps_in
        starts = np.cumsum([0, *(ir.dim for _, ir in irreps)])[:-1]
        found = [
            {nu: _support(u, starts) for nu, u in t.u.items()} for t in contraction.read(module)
        ]
        _SUPPORT[module] = found
    return found


def _support(u: Tensor, starts: NDArray[np.int64]) -> Support:
    hit = (u != 0).any(dim=0).cpu().numpy()
    for axis in range(hit.ndim - 1):
        hit = np.logical_or.reduceat(hit, starts, axis=axis)
    combos = np.argwhere(hit.any(axis=-1))
    return Support(combos, hit[tuple(combos.T)])


@register_op
class SymmetricContraction(OpDef):
    """Messages → products of up to ν of them, per channel; ``order_out`` are the output orders.

    Inputs: the message [N, K, Σ(2l+1)] and one-hot elements [N, elements]. The result has K copies of
    each output order: copy k of order L exists exactly when channel k and the order do.
    """

    name = "mace-contraction"
    row_wise = True
    targets = ("mace.modules.symmetric_contraction.SymmetricContraction",)
    trait = Trait.EXACT_WITH_FOLD

    def infer(self, site: Site) -> Any:
        m: Any = site.module
        t = site.irreps(0)
        want = IrrepsType.parse(str(m.irreps_in), t.space, Layout.MUL_X_DIM)
        if not t.same_units(want):
            raise IrrepsTypeError(
                f"{site.where} expects {want} as operand 0, but {site.operands[0].name} gives {t}"
            )
        elements = int(m.contractions[0].weights_max.shape[0])
        site.expect(1, f"{elements}x0e")
        out = IrrepsType.parse(str(m.irreps_out), t.space)
        channels = t.segments[0].mul
        if any(s.mul != channels for s in out):
            raise IrrepsTypeError(
                f"{site.where} gives {out.irreps} from {channels} channels; every output order must"
                " have that many copies"
            )
        return out

    def axes(self, site: Site) -> dict[str, int]:
        m: Any = site.module
        return {"order_out": len(m.irreps_out)}

    def couple(self, site: Site, c: Coupler) -> None:
        channel, order = c.channels(0), c.axis("order_out")
        c.product(c.out, np.tile(channel, len(order)), np.repeat(order, len(channel)))
        c.fixed(c.operand(1), "elements of a contraction")

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        assert nz[0] is not None and site.module is not None
        orders = nz[0].reshape(len(site.irreps(0).segments), -1)
        out = np.zeros((len(axes["order_out"]), orders.shape[1]), bool)
        patterns, which = np.unique(orders, axis=1, return_inverse=True)
        for i, support in enumerate(support_of(site.module)):
            if axes["order_out"][i]:
                hot = [any(s.alive(p).any() for s in support.values()) for p in patterns.T]
                out[i] = np.array(hot, bool)[which.reshape(-1)]
        return out.reshape(-1)

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        assert need is not None and nz[0] is not None and nz[1] is not None
        assert site.module is not None
        n_in, n_out = len(site.irreps(0).segments), len(axes["order_out"])
        orders = nz[0].reshape(n_in, -1)
        wanted = need.reshape(n_out, -1) & axes["order_out"][:, None]
        patterns, which = np.unique(np.vstack([orders, wanted]), axis=1, return_inverse=True)
        read = np.zeros((n_in, patterns.shape[1]), bool)
        used = np.zeros(n_out, bool)
        for j, column in enumerate(patterns.T):
            for i, support in enumerate(support_of(site.module)):
                for s in support.values() if column[n_in + i] else ():
                    hot = s.combos[s.alive(column[:n_in])]
                    read[hot.reshape(-1), j] = True
                    used[i] |= bool(len(hot))
        elements = np.full(len(nz[1]), bool(wanted.any()))
        return [read[:, which.reshape(-1)].reshape(-1), elements], {"order_out": used}

    def _masks(self, site: Site, keep: Keep) -> tuple[BoolMask, BoolMask, BoolMask]:
        """(orders in, channels, orders out).

        Raises:
            ExactnessError: the kept units do not form whole channels and orders.
        """
        orders = keep.operand(0).reshape(len(site.irreps(0).segments), -1)
        out = keep.axes["order_out"]
        rows, channels = np.asarray(orders.any(axis=1)), np.asarray(orders.any(axis=0))
        made = np.outer(out, channels).reshape(-1)
        if not np.array_equal(orders, np.outer(rows, channels)) or not np.array_equal(
            made, keep.result
        ):
            raise ExactnessError(
                f"{site.where} can only shrink by whole channels and whole orders, but the mask"
                " keeps different channels in different orders"
            )
        return rows, channels, out

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m: Any = site.module
        orders, channels, orders_out = self._masks(site, keep)
        full = contraction.read(m)
        components = np.repeat(orders, [s.dim for s in site.irreps(0)])
        elements = keep.operand(1)
        n = int(channels.sum())
        irreps_in = "+".join(
            f"{n}x{s.ir}" for s, k in zip(site.irreps(0), orders, strict=True) if k
        )
        kept = [t for t, k in zip(full, orders_out, strict=True) if k]
        reduced = contraction.is_symmetric(full)
        parts = [
            contraction.rebase(
                contraction.restrict(t, components, channels, elements),
                irreps_in,
                reduced,
                site.where,
            )
            for t in kept
        ]
        return contraction.assemble(irreps_in, "+".join(f"{n}x{t.ir}" for t in kept), parts)

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert site.module is not None
        m: Any = site.module
        orders = keep.operand(0).reshape(len(site.irreps(0).segments), -1)
        rows, k = np.asarray(orders.any(axis=1)), int(orders.any(axis=0).sum())
        dim = int(np.array([s.dim for s in site.irreps(0)])[rows].sum())
        elements = int(keep.operand(1).sum())
        params, flops, matmul = 0, 0.0, 0.0
        for i, support in enumerate(support_of(site.module)):
            if not keep.axes["order_out"][i]:
                continue
            sizes = []
            for nu in sorted(support):
                s = support[nu]
                sizes.append(max(1, int(s.paths[s.alive(rows)].any(axis=0).sum())))
            params += elements * sum(sizes) * k
            counted = matmul_flops(m.contractions[i], tuple(sizes), dim, k, elements)
            matmul += counted
            width = 2 * site.result.segments[i].l + 1
            flops += counted + k * dim * sizes[-1]
            flops += sum(k * width * dim**nu for nu in range(1, len(sizes)))
        return Cost(params, flops, matmul)

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        assert site.module is not None
        out = site.module(*args)
        widths = torch.tensor([s.mul * s.dim for s in site.result], device=out.device)
        return out * axes["order_out"].to(out.dtype).repeat_interleave(widths)

    def symmetrized(self, site: Site) -> nn.Module | None:
        m: Any = site.module
        parts = [symmetric.reduce(t, site.where) for t in contraction.read(m)]
        return contraction.assemble(str(m.irreps_in), str(m.irreps_out), parts)

    def limited(self, site: Site, order: int) -> nn.Module | None:
        m: Any = site.module
        parts = contraction.read(m)
        if max(max(t.u) for t in parts) <= order:
            return m
        parts = [contraction.up_to(t, order) for t in parts]
        return contraction.assemble(str(m.irreps_in), str(m.irreps_out), parts)

    def polynomial(self, site: Site) -> tuple[PolySpec, Tensor] | None:
        m: Any = site.module
        orders = tuple((ir.l, ir.p) for _, ir in m.irreps_in)
        return symmetric.polynomial(contraction.read(m), orders)

    def spec(self, module: nn.Module) -> dict[str, Any]:
        m: Any = module
        parts = contraction.read(m)
        return {
            "irreps_in": str(m.irreps_in),
            "irreps_out": str(m.irreps_out),
            "elements": int(m.contractions[0].weights_max.shape[0]),
            "paths": [[int(t.u[nu].shape[-1]) for nu in sorted(t.u)] for t in parts],
            "zero": [[not bool(t.u[nu].any()) for nu in sorted(t.u)] for t in parts],
            "flags": any(n.endswith("_zeroed") for n, _ in m.named_buffers()),
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        irreps_in = IrrepsType.parse(spec["irreps_in"])
        irreps_out = IrrepsType.parse(spec["irreps_out"])
        dim, k = sum(s.dim for s in irreps_in), irreps_in.segments[0].mul
        parts = []
        for s, paths, zero in zip(irreps_out, spec["paths"], spec["zero"], strict=True):
            u, w = {}, {}
            for nu, (n, empty) in enumerate(zip(paths, zero, strict=True), start=1):
                u[nu] = torch.full((s.dim, *[dim] * nu, n), 0.0 if empty else 1.0)
                w[nu] = torch.zeros(spec["elements"], n, k)
            parts.append(contraction.Terms(s.l, s.p, u, w))
        made = contraction.assemble(spec["irreps_in"], spec["irreps_out"], parts)
        if not spec["flags"]:
            for c in made.contractions:  # type: ignore[union-attr]
                for name in [n for n in c._buffers if n.endswith("_zeroed")]:
                    del c._buffers[name]
        return made

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        assert site.module is not None
        return contraction.evaluate(contraction.read(site.module), args[0], args[1])


def matmul_flops(c: Any, paths: tuple[int, ...], dim: int, channels: int, elements: int) -> float:
    """FLOPs per node in matrix products of one output order, as torch's own counter counts them.

    The einsum programs of the module run on tensors without data, of the sizes given.
    """
    first = c.U_tensors(1)
    width = int(first.shape[0]) if first.dim() == 3 else 0
    programs = (c.graph_opt_main, *c.contractions_weighting, *c.contractions_features)
    key = (tuple(p.code for p in programs), width)
    _PROGRAMS.setdefault(key, programs)
    return _count(key, paths, dim, channels, elements)


_PROGRAMS: dict[Any, tuple[Any, ...]] = {}


@functools.lru_cache(maxsize=4096)
def _count(key: Any, paths: tuple[int, ...], dim: int, channels: int, elements: int) -> float:
    few, many = (_flops(key, paths, dim, channels, elements, n) for n in (64, 128))
    return (many - few) / 64


def _flops(
    key: Any, paths: tuple[int, ...], dim: int, channels: int, elements: int, nodes: int
) -> float:
    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    width, top = key[1], len(paths)
    lead = (width,) if width else ()
    main, *rest = _PROGRAMS[key]
    x, y = empty(nodes, channels, dim), empty(nodes, elements)
    with FlopCounterMode(display=False) as counter:
        u = empty(*lead, *[dim] * top, paths[-1])
        out = main(u, empty(elements, paths[-1], channels), x, y)
        for i, (weigh, contract) in enumerate(zip(rest[: top - 1], rest[top - 1 :], strict=True)):
            nu = top - 1 - i
            u = empty(*lead, *[dim] * nu, paths[nu - 1])
            out = contract(weigh(u, empty(elements, paths[nu - 1], channels), y) + out, x)
    return float(counter.get_total_flops())
