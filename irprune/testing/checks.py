"""The checks of the kit: each measures one promise of an OpDef, 0 where it is kept exactly."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from irprune.irreps import BoolMask, IrrepsType
from irprune.ops.base import Keep, Trait, op_named
from irprune.slicing import masked_and_sliced, slice_graph
from irprune.testing.subject import NODE, PATH, Subject
from irprune.verification.checks import worse, worst_of
from irprune.verification.ladder import compare_on_examples

Check = Callable[[Subject], float]


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    if a.shape != b.shape:
        return float("inf")
    return (
        float(((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).detach()) if a.numel() else 0.0
    )


def trait(s: Subject) -> float:
    """The claim is one of the three, and one that is not exact gives its reason."""
    op = s.op
    return float(op.trait not in Trait or (op.trait is Trait.APPROXIMATE and not op.reason))


def types(s: Subject) -> float:
    """``infer`` gives irreps, and a result of that shape comes out."""
    out = s.site.out
    if not isinstance(out, IrrepsType) or s.alone.blocks.barriers:
        return float("inf")
    return 0.0  # tracing compared every shape


def masked_sliced(s: Subject) -> float:
    """The masked and the sliced network agree in values and gradients, for several masks."""
    worst = 0.0
    for share in (0.0, 0.3, 0.7):
        sliced = slice_graph(s.network.replace(keep=s.mask(share)))
        masked, small = masked_and_sliced(sliced)
        for grow in (0, 3):
            worst = worse(worst, compare_on_examples(sliced, masked, small, grow))
    return worst


def nonzero(s: Subject) -> float:
    """A unit that ``nonzero`` calls zero is zero, whatever the other operands hold."""
    rng = np.random.default_rng(s.seed)
    nz, operands = _random_zeros(s, rng, 0.5)
    said = s.op.nonzero(s.site, nz, _all_axes(s))
    out = s.module(*operands).detach()
    t = s.site.result
    if said is None or not t.is_flat:
        return 0.0
    zero = torch.from_numpy(~t.components(said))
    return float(out[:, zero].abs().max()) if bool(zero.any()) else 0.0


def needed(s: Subject) -> float:
    """Results that are needed do not depend on units of operands that ``needed`` leaves out."""
    t = s.site.result
    if not t.is_flat:
        return 0.0
    rng = np.random.default_rng(s.seed)
    nz, operands = _random_zeros(s, rng, 0.0)
    need = rng.random(t.n_units) < 0.5
    reads, _ = s.op.needed(s.site, need, nz, _all_axes(s))
    inputs = [x.requires_grad_(x.is_floating_point()) for x in operands]
    wanted = s.module(*inputs)[:, torch.from_numpy(t.components(need))]
    worst = 0.0
    for i, mask in enumerate(reads):
        if mask is None or not wanted.requires_grad or not wanted.numel():
            continue
        weight = torch.randn(wanted.shape, dtype=wanted.dtype)
        (grad,) = torch.autograd.grad(
            (wanted * weight).sum(), inputs[i], retain_graph=True, allow_unused=True
        )
        unread = torch.from_numpy(~s.site.irreps(i).components(mask))
        if grad is not None and bool(unread.any()):
            worst = worse(worst, float(grad[:, unread].abs().max()))
    return worst


def equivariance(s: Subject) -> float:
    """f(D x) = D f(x) for a random rotation, with and without inversion."""
    operands, out = s.operands(), s.site.result
    if not out.is_flat:
        return 0.0
    generator = torch.Generator().manual_seed(s.seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    rotation = q * r.diagonal().sign()
    worst = 0.0
    for matrix in (rotation, -rotation):
        turned = [
            x @ _representation(t, matrix).T if isinstance(t, IrrepsType) and t.dim else x
            for x, t in zip(operands, s.site.types, strict=True)
        ]
        expected = s.module(*operands) @ _representation(out, matrix).T
        worst = worse(worst, difference(expected, s.module(*turned)))
    return worst


def cost(s: Subject) -> float:
    """``cost`` counts all parameters, before and after slicing, and FLOPs that do not grow."""
    whole = s.op.cost(s.site, _keep_all(s))
    counted = abs(whole.params - sum(p.numel() for p in s.module.parameters()))
    graph = slice_graph(s.network.replace(keep=s.mask(0.4)))
    small = next(x for x in graph.sites.values() if x.node.target == PATH)
    assert small.module is not None
    keep = graph.blocks.keep_at(small, np.ones(graph.blocks.n, bool))
    left = s.op.cost(small, keep)
    counted += abs(left.params - sum(p.numel() for p in small.module.parameters()))
    return float(counted) + float(left.flops > whole.flops or min(left.flops, whole.flops) < 0)


def printing(s: Subject) -> float:
    """The graph prints with the op's name, and its groups print."""
    printed = [x for x in str(s.network).splitlines() if x.startswith(f"%{NODE} ")]
    return float(not printed or f"= {s.op.name}(" not in printed[0] or not s.network.groups())


def file(s: Subject) -> float:
    """``build`` of ``spec`` (through JSON) with the same tensors is the same function."""
    spec = json.loads(json.dumps(s.op.spec(s.module)))
    made = op_named(s.op.name).build(spec).double().eval()
    made.load_state_dict(s.module.state_dict(), strict=True)
    operands = s.operands(2)
    return difference(s.module(*operands), made(*operands))


def pickling(s: Subject) -> float:
    """Op and module survive pickle and deepcopy, with the same values."""
    if type(pickle.loads(pickle.dumps(s.op))) is not type(s.op):
        return float("inf")
    operands = s.operands(1)
    value = s.module(*operands)
    copies = (pickle.loads(pickle.dumps(s.module)), copy.deepcopy(s.module))
    return worst_of(difference(value, c(*operands)) for c in copies)


def reference(s: Subject) -> float:
    """The plain second evaluation, where the op has one, agrees with the module."""
    operands = s.operands(2)
    expected = s.op.reference(s.site, operands)
    return 0.0 if expected is None else difference(expected, s.module(*operands))


CHECKS: dict[str, tuple[Check, float]] = {
    "trait": (trait, 0.0),
    "types": (types, 0.0),
    "masked-sliced": (masked_sliced, 1e-10),
    "nonzero": (nonzero, 1e-14),
    "needed": (needed, 1e-14),
    "equivariance": (equivariance, 1e-9),
    "cost": (cost, 0.0),
    "printing": (printing, 0.0),
    "file": (file, 1e-14),
    "pickling": (pickling, 1e-14),
    "reference": (reference, 1e-12),
}
"""Name → (what measures it, what is allowed)."""


def _representation(t: IrrepsType, matrix: Tensor) -> Tensor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        made: Tensor = o3.Irreps(t.irreps).D_from_matrix(matrix)
    finally:
        torch.set_default_dtype(before)
    places = torch.from_numpy(np.argsort(t.by_copy))
    return made[places][:, places]


def _keep_all(s: Subject) -> Keep:
    return s.alone.blocks.keep_at(s.site, np.ones(s.alone.blocks.n, bool))


def _all_axes(s: Subject) -> dict[str, BoolMask]:
    return _keep_all(s).axes


def _random_zeros(
    s: Subject, rng: np.random.Generator, share: float
) -> tuple[list[BoolMask | None], list[Tensor]]:
    """Operands with a share of their units zero, and the units that are not."""
    masks: list[BoolMask | None] = []
    operands = []
    for x, t in zip(s.operands(), s.site.types, strict=True):
        if not isinstance(t, IrrepsType):
            masks.append(None)
            operands.append(x)
            continue
        mask = rng.random(t.n_units) >= share
        masks.append(mask)
        operands.append(x * torch.from_numpy(t.components(mask)))
    return masks, operands
