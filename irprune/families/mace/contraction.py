"""MACE's symmetric contraction as tensors: reading, restricting, changing the basis, rebuilding.

An output order L of a contraction is the polynomial

    out[n, m, k] = Σ_ν Σ_p (Σ_e y[n, e] W_ν[e, p, k])
                   Σ_{i…} U_ν[m, i1, …, iν, p] x[n, k, i1] … x[n, k, iν]

so only the part of U_ν that is symmetric in i1 … iν counts. The U of a checkpoint is one basis among
many: with or without ``use_reduced_cg``, made in float32 or float64, and a rebuilt contraction may
have another. Paths are therefore never matched by position.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor, nn

from irprune.errors import ExactnessError
from irprune.families.mace.library import import_mace
from irprune.irreps import BoolMask
from irprune.ops.constants import in_dtype_of

SAME_SPACE = 1e-5
"""Largest relative distance of two bases of the same space; bases made in float32 differ by 1e-7."""
RESIDUAL = {torch.float64: 1e-11, torch.float32: 1e-5}
"""Largest relative residual of the new path weights."""


@dataclass(frozen=True)
class Terms:
    """One output order of a contraction, by correlation order ν."""

    l: int  # noqa: E741 - the field's name for the order
    p: int
    u: Mapping[int, Tensor]
    """ν → [2L+1, D, …, D, P]; the first axis is there for L = 0 as well."""
    w: Mapping[int, Tensor]
    """ν → [elements, P, K]."""

    @property
    def ir(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


def read(module: nn.Module) -> list[Terms]:
    """The tensors of a contraction, from its own buffers and parameters."""
    m: Any = module
    return [_read_one(c, ir) for c, (_, ir) in zip(m.contractions, m.irreps_out, strict=True)]


def _read_one(c: Any, ir: Any) -> Terms:
    buffers = dict(c.named_buffers())
    top = int(c.correlation)
    u, w = {}, {}
    for nu in range(1, top + 1):
        tensor = buffers[f"U_matrix_{nu}"].detach()
        u[nu] = tensor if tensor.dim() == nu + 2 else tensor.unsqueeze(0)
        w[nu] = (c.weights_max if nu == top else c.weights[top - 1 - nu]).detach()
    return Terms(int(ir.l), int(ir.p), u, w)


def restrict(
    terms: Terms, components: BoolMask, channels: BoolMask, elements: BoolMask | None = None
) -> Terms:
    """Only the kept components of the input, channels and elements; paths that are zero go.

    A ν without any path left keeps one, of zeros, as mace does.
    """
    u, w = {}, {}
    for nu, tensor in terms.u.items():
        for axis in range(1, nu + 1):
            tensor = _select(tensor, axis, components)
        weight = _select(terms.w[nu], 2, channels)
        if elements is not None:
            weight = _select(weight, 0, elements)
        live = (tensor != 0).flatten(0, -2).any(dim=0).cpu().numpy()
        if live.any():
            u[nu], w[nu] = _select(tensor, nu + 1, live), _select(weight, 1, live)
        else:
            u[nu] = tensor[..., :1] * 0
            w[nu] = weight[:, :1] * 0
    return Terms(terms.l, terms.p, u, w)


def _select(t: Tensor, axis: int, mask: BoolMask) -> Tensor:
    return t.index_select(axis, torch.from_numpy(np.flatnonzero(mask)).to(t.device))


def symmetrise(u: Tensor) -> Tensor:
    """Mean over the permutations of the ν input axes of [2L+1, D, …, D, P]."""
    nu = u.dim() - 2
    out = torch.zeros_like(u)
    orders = list(itertools.permutations(range(1, nu + 1)))
    for order in orders:
        out = out + u.permute(0, *order, nu + 1)
    return out / len(orders)


def is_symmetric(terms: Sequence[Terms]) -> bool:
    """Whether every U is symmetric in its inputs, as those made with ``use_reduced_cg`` are."""
    for t in terms:
        for u in t.u.values():
            size = float(u.abs().max()) if u.numel() else 0.0
            if size and float((u - symmetrise(u)).abs().max()) > SAME_SPACE * size:
                return False
    return True


@functools.lru_cache(maxsize=256)
def class_basis(irreps: str, ir: str, nu: int, reduced: bool) -> Tensor:
    """The U_ν in float64 that mace makes for one copy of these inputs, [2L+1, D, …, D, P].

    ``reduced`` without cuEquivariance installed: a basis of the symmetric part, made from mace's own
    by singular value decomposition; it has as many paths as the reduced one.
    """
    cg = import_mace("mace.tools.cg")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        u = cg.U_matrix_real(
            irreps_in=o3.Irreps(irreps),
            irreps_out=o3.Irreps(ir),
            correlation=nu,
            dtype=torch.float64,
            use_cueq_cg=reduced and cg.CUET_AVAILABLE,
        )[-1]
    finally:
        torch.set_default_dtype(before)
    dim = o3.Irreps(irreps).dim
    u = u.reshape(o3.Irrep(ir).dim, *[dim] * nu, u.shape[-1])  # mace squeezes axes of length 1
    if reduced and not cg.CUET_AVAILABLE:
        u = _symmetric_part(u)
    return u


def _symmetric_part(u: Tensor) -> Tensor:
    flat = symmetrise(u).flatten(0, -2)
    left, values, _ = torch.linalg.svd(flat, full_matrices=False)
    rank = int((values > 1e-9 * values[:1].clamp_min(1e-30)).sum()) if values.numel() else 0
    if rank == 0 or float(values[0]) == 0.0:
        return u[..., :1] * 0
    return left[:, :rank].reshape(*u.shape[:-1], rank)


def rebase(terms: Terms, irreps: str, reduced: bool, where: str) -> Terms:
    """The same polynomial over the basis that mace makes for ``irreps``.

    Where that basis has as many paths as ``terms`` and spans the same space, ``terms`` is returned as
    it is: it fits into the class bit by bit. Otherwise the weights are solved for.

    Raises:
        ExactnessError: a residual that is not zero; names ν, L and the residual.
    """
    u, w = {}, {}
    single = "+".join(f"1x{ir}" for _, ir in o3.Irreps(irreps))
    for nu, old in terms.u.items():
        basis = class_basis(single, terms.ir, nu, reduced).to(old.device)
        if _fits(old, basis):
            u[nu], w[nu] = old, terms.w[nu]
        else:
            label = f"{where}: correlation order {nu}, output {terms.ir}"
            u[nu], w[nu] = project(old, terms.w[nu], basis, label)
    return Terms(terms.l, terms.p, u, w)


def _matrix(u: Tensor) -> NDArray[np.float64]:
    return symmetrise(u.double()).flatten(0, -2).cpu().numpy()


def _solve(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least squares a x ≈ b, and its relative residual."""
    x: NDArray[np.float64] = np.linalg.lstsq(a, b, rcond=SAME_SPACE)[0].astype(np.float64)
    size = float(np.linalg.norm(b))
    return x, float(np.linalg.norm(a @ x - b)) / size if size else 0.0


def _fits(old: Tensor, basis: Tensor) -> bool:
    if old.shape != basis.shape:
        return False
    if not bool(old.any()) and not bool(basis.any()):
        return True
    a, b = _matrix(old), _matrix(basis)
    return _solve(a, b)[1] < SAME_SPACE and _solve(b, a)[1] < SAME_SPACE


def project(old: Tensor, weight: Tensor, basis: Tensor, where: str) -> tuple[Tensor, Tensor]:
    """U and weights over the space of ``basis`` that give the same polynomial.

    The new U is ``basis`` expressed in the checkpoint's own tensors, so that rounding in these (a
    basis made in float32) does not limit how exact the weights are.

    Args:
        old: [2L+1, D, …, D, P].
        weight: [elements, P, K].
        basis: [2L+1, D, …, D, Q], float64.
        where: for the error.

    Raises:
        ExactnessError: the two spaces differ.
    """
    a, b = _matrix(old), _matrix(basis)
    if a.shape[0] != b.shape[0]:
        raise ExactnessError(
            f"{where}: the checkpoint's tensors have {a.shape[0]} components, the rebuilt basis"
            f" {b.shape[0]}"
        )
    mix, distance = _solve(a, b)
    if distance > SAME_SPACE and np.any(a):
        raise ExactnessError(
            f"{where}: the basis of the rebuilt contraction is not spanned by the checkpoint's own"
            f" tensors (relative distance {distance:.2e}); its convention is unknown"
        )
    aligned = torch.from_numpy(a @ mix if np.any(a) else b).to(old)
    x, residual = _solve(aligned.double().cpu().numpy(), a)
    if residual > RESIDUAL[old.dtype]:
        raise ExactnessError(
            f"{where}: no weights of the rebuilt contraction reproduce the checkpoint"
            f" (relative residual {residual:.2e}, allowed {RESIDUAL[old.dtype]:.0e})"
        )
    moved = torch.einsum("qp,epk->eqk", torch.from_numpy(x).to(weight.device), weight.double())
    return aligned.reshape(*old.shape[:-1], b.shape[1]), moved.to(weight.dtype)


def assemble(irreps_in: str, irreps_out: str, parts: Sequence[Terms]) -> nn.Module:
    """A ``SymmetricContraction`` that holds the given tensors.

    Its einsum programs are made by the class itself, for these sizes.
    """
    library = import_mace("mace.modules.symmetric_contraction")
    like = next(iter(parts[0].w.values()))
    elements, _, channels = like.shape
    top = max(parts[0].u)
    tensors: Iterator[Tensor] = iter(
        _natural(t.u[nu], t.l) for t in parts for nu in range(1, top + 1)
    )

    def given(**_: Any) -> list[Any]:
        return [None, next(tensors)]

    scalars = o3.Irreps(f"{channels}x0e")  # the class counts 0e to find the channels
    with (
        patch.object(library, "U_matrix_real", given),
        torch.random.fork_rng(devices=[]),
        in_dtype_of(nn.ParameterList([nn.Parameter(like)])),
    ):
        made = library.SymmetricContraction(
            irreps_in=scalars,
            irreps_out=o3.Irreps(irreps_out),
            correlation=top,
            num_elements=elements,
        )
    made.irreps_in = o3.Irreps(irreps_in)
    for c, t in zip(made.contractions, parts, strict=True):
        c.coupling_irreps = o3.Irreps([ir for _, ir in made.irreps_in])
        c.num_features = channels
        for nu in range(1, top + 1):
            _place(c, nu, top, t)
    return made.to(like.device)


def _natural(u: Tensor, order: int) -> Tensor:
    """mace leaves out the first axis for scalars."""
    return (u[0] if order == 0 else u).detach().clone()


def _place(c: Any, nu: int, top: int, t: Terms) -> None:
    """Weights of one ν; where U is zero they are the constant zero."""
    zero = not bool(t.u[nu].any())
    value = t.w[nu].detach().clone()
    # not mace's EmptyParam, which cannot be deep-copied
    made = nn.Parameter(value, requires_grad=not zero)
    flag = torch.tensor(zero, device=value.device)
    if nu == top:
        c.weights_max = made
        c.weights_max_zeroed = flag
    else:
        c.weights[top - 1 - nu] = made
        setattr(c, f"weights_{top - 1 - nu}_zeroed", flag)


def evaluate(parts: Sequence[Terms], x: Tensor, y: Tensor) -> Tensor:
    """The polynomial, term by term: a second implementation to test against.

    Args:
        parts: one per output order.
        x: [N, K, D].
        y: [N, elements].
    """
    out = []
    for t in parts:
        total = x.new_zeros(x.shape[0], 2 * t.l + 1, x.shape[1])
        for nu, u in t.u.items():
            weights = torch.einsum("ne,epk->npk", y, t.w[nu].to(x))
            for p in range(u.shape[-1]):
                value = u[..., p].to(x).expand(x.shape[0], x.shape[1], *u.shape[:-1])
                for _ in range(nu):
                    value = (value * _broadcast(x, value)).sum(-1)
                total = total + (value * weights[:, p, :, None]).transpose(1, 2)
        out.append(total.transpose(1, 2).flatten(1))
    return torch.cat(out, dim=1)


def _broadcast(x: Tensor, value: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], *([1] * (value.dim() - 3)), x.shape[2])


def up_to(terms: Terms, order: int) -> Terms:
    """Only the terms of at most ``order`` factors."""
    u = {nu: t for nu, t in terms.u.items() if nu <= order}
    return Terms(terms.l, terms.p, u, {nu: terms.w[nu] for nu in u})


def without_weights(terms: Terms) -> Terms:
    """The same basis with all weights zero."""
    return Terms(terms.l, terms.p, terms.u, {nu: torch.zeros_like(w) for nu, w in terms.w.items()})


def lift(
    full: Terms,
    small: Terms,
    components: BoolMask,
    channels: BoolMask,
    elements: BoolMask,
    where: str,
) -> Terms:
    """The polynomial ``small`` in the tensors of ``full``: the inverse of ``restrict``.

    Where both have the same paths the tensors of ``small`` go in as they are. What ``full`` has
    besides gets weights of zero.

    Raises:
        ExactnessError: ``full`` cannot say ``small``.
    """
    u, w = {}, {}
    for nu, tensor in full.u.items():
        part = tensor
        for axis in range(1, nu + 1):
            part = _select(part, axis, components)
        live = (part != 0).flatten(0, -2).any(dim=0)
        paths = np.flatnonzero(live.cpu().numpy())
        u[nu], w[nu] = tensor.clone(), torch.zeros_like(full.w[nu])
        if not len(paths):
            if bool(small.u[nu].any()):
                raise ExactnessError(f"{where}: the class has no paths of correlation order {nu}")
            continue
        part = part[..., live]
        own, weight = small.u[nu].to(part), small.w[nu]
        if not _fits(own, part.double()):
            own, weight = project(own, weight, part.double(), f"{where}: correlation order {nu}")
        inside = np.flatnonzero(components)
        u[nu][np.ix_(np.arange(tensor.shape[0]), *[inside] * nu, paths)] = own.to(tensor)
        where_w = np.ix_(np.flatnonzero(elements), paths, np.flatnonzero(channels))
        w[nu][where_w] = weight.to(w[nu])
    return Terms(full.l, full.p, u, w)


def state_of(terms: Terms) -> dict[str, Tensor]:
    """Buffers and parameters of one output order, by their names in mace."""
    top = max(terms.u)
    state = {f"U_matrix_{nu}": _natural(u, terms.l) for nu, u in terms.u.items()}
    for nu, w in terms.w.items():
        state["weights_max" if nu == top else f"weights.{top - 1 - nu}"] = w
    return state
