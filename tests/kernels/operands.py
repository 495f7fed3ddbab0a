"""Random operands of convolutions, and all derivatives up to the second."""

from __future__ import annotations

import torch

from irprune.edges import pack


def inputs(spec, nodes=6, edges=31, rows=None, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    sender, receiver = torch.randint(0, nodes, (2, edges), generator=g)
    row = None
    if rows is not None:  # every row is used by one edge or two
        row = torch.cat([torch.arange(rows), torch.randperm(rows, generator=g)])[:edges]
    shapes = ((nodes, spec.dims[0]), (edges, spec.dims[1]), (rows or edges, spec.n_weights))
    x, y, w = (
        torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes
    )
    return x, y, w, pack(sender, receiver, nodes, row)


def derivatives(function, *operands):
    """Value, gradients, and gradients of a random combination of the gradients."""
    g = torch.Generator().manual_seed(1)
    wanted = [t for t in operands if t.requires_grad]
    out = function(*operands)
    up = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out).requires_grad_()
    first = torch.autograd.grad((out * up).sum(), wanted, create_graph=True)
    mixed = sum(
        (f * torch.randn(f.shape, generator=g, dtype=torch.float64).to(f)).sum() for f in first
    )
    return [out, *first, *torch.autograd.grad(mixed, (up, *wanted))]


def assert_derivatives_equal(made, wanted, tolerance):
    """Two lists of ``derivatives``, relative to the largest number of each."""
    for a, b in zip(made, wanted, strict=True):
        scale = max(1.0, float(b.detach().abs().max()))
        assert float((a.double() - b.double()).detach().abs().max()) <= tolerance * scale
