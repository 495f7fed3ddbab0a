"""The connection modes of e3nn's tensor products, as functions of unit masks.

A path joins u copies of in1, v copies of in2 and w copies of out. Each mode says which triples it
holds; everything that slicing, dead-block analysis and coupling need follows from that.
Source of the modes: ``e3nn.o3.TensorProduct``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irprune.irreps import BoolMask

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Path:
    """One instruction: segments, mode, coefficient, and where its weights lie in the flat vector."""

    i1: int
    i2: int
    out: int
    mode: str
    weighted: bool
    coefficient: float
    shape: tuple[int, ...]
    offset: int

    @property
    def numel(self) -> int:
        return int(np.prod(self.shape)) if self.weighted else 0

    @property
    def weights(self) -> slice:
        return slice(self.offset, self.offset + self.numel)


def pairs(n: int) -> tuple[Ids, Ids]:
    """All (u, v) with u < v, row by row."""
    a, b = np.triu_indices(n, 1)
    return a.astype(np.int64), b.astype(np.int64)


def weight_mask(mode: str, a: BoolMask, b: BoolMask, o: BoolMask) -> BoolMask:
    """Weights whose two inputs and output are all in the masks, in the shape of the path."""
    if mode == "uvw":
        return a[:, None, None] & b[None, :, None] & o[None, None, :]
    if mode == "uvu":
        return a[:, None] & b[None, :] & o[:, None]
    if mode == "uvv":
        return a[:, None] & b[None, :] & o[None, :]
    if mode == "uuw":
        return (a & b)[:, None] & o[None, :]
    if mode == "uuu":
        return a & b & o
    if mode == "uvuv":
        return a[:, None] & b[None, :] & o.reshape(len(a), len(b))
    u, v = pairs(len(a))
    if mode == "uvu<v":
        return a[u] & b[v] & o
    return (a[u] & b[v])[:, None] & o[None, :]


def pair_count(mode: str, a: BoolMask, b: BoolMask) -> int:
    """How many (u, v) the path multiplies with each other."""
    if mode in ("uuu", "uuw"):
        return int((a & b).sum())
    if mode in ("uvu<v", "u<vw"):
        u, v = pairs(len(a))
        return int((a[u] & b[v]).sum())
    return int(a.sum()) * int(b.sum())


def reached(mode: str, a: BoolMask, b: BoolMask, n_out: int) -> BoolMask:
    """Outputs that may be non-zero."""
    if mode in ("uvw", "uuw", "u<vw"):
        if mode == "uvw":
            alive = a.any() and b.any()
        elif mode == "uuw":
            alive = (a & b).any()
        else:
            u, v = pairs(len(a))
            alive = (a[u] & b[v]).any()
        return np.full(n_out, bool(alive))
    if mode == "uvu":
        return a & bool(b.any())
    if mode == "uvv":
        return b & bool(a.any())
    if mode == "uuu":
        return a & b
    if mode == "uvuv":
        return np.outer(a, b).reshape(-1)
    u, v = pairs(len(a))
    return a[u] & b[v]


def read(mode: str, a: BoolMask, b: BoolMask, need: BoolMask) -> tuple[BoolMask, BoolMask]:
    """Inputs that needed outputs read, given which inputs may be non-zero."""
    hot = weight_mask(mode, a, b, need)
    if mode == "uvw":
        return np.asarray(hot.any(axis=(1, 2))), np.asarray(hot.any(axis=(0, 2)))
    if mode in ("uvu", "uvv", "uvuv"):
        return np.asarray(hot.any(axis=1)), np.asarray(hot.any(axis=0))
    if mode == "uuw":
        both = np.asarray(hot.any(axis=1))
        return both, both
    if mode == "uuu":
        return hot, hot
    u, v = pairs(len(a))
    hit = hot if mode == "uvu<v" else np.asarray(hot.any(axis=1))
    ra, rb = np.zeros_like(a), np.zeros_like(b)
    ra[u[hit]] = True
    rb[v[hit]] = True
    return ra, rb


def grids(mode: str, n1: int, n2: int, n_out: int) -> tuple[Ids, Ids, Ids]:
    """For each weight of the path, in flat order: its u, its v and its output copy."""
    u: Ids
    v: Ids
    w: Ids
    if mode == "uvw":
        u, v, w = np.meshgrid(np.arange(n1), np.arange(n2), np.arange(n_out), indexing="ij")
    elif mode in ("uvu", "uvv", "uvuv"):
        u, v = np.meshgrid(np.arange(n1), np.arange(n2), indexing="ij")
        w = {"uvu": u, "uvv": v, "uvuv": u * n2 + v}[mode]
    elif mode == "uuw":
        u, w = np.meshgrid(np.arange(n1), np.arange(n_out), indexing="ij")
        v = u
    elif mode == "uuu":
        u = v = w = np.arange(n1)
    else:
        a, b = pairs(n1)
        if mode == "uvu<v":
            u, v, w = a, b, np.arange(len(a))
        else:
            u, w = np.meshgrid(a, np.arange(n_out), indexing="ij")
            v, _ = np.meshgrid(b, np.arange(n_out), indexing="ij")
    return u.reshape(-1), v.reshape(-1), w.reshape(-1)
