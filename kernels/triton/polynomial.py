"""Triton text for the polynomials of a PolySpec and their first and second derivatives.

The monomials of x form a tree: each is its parent times one component. A program walks the tree once
and keeps nothing but the way to where it is, however many terms there are. With m the monomial of a
node and d the sum of what its terms multiply it with,

    D = d + Σ over children x[k] D[child],    ∂/∂x[k] += m D[child],    ∂/∂w[p] += a g[c] m.

Second derivatives are the same walk with dual numbers: along (ax, aw), what it makes of the value, of
∂/∂x and of ∂/∂w are the gradients of ⟨ax, gx⟩ + ⟨aw, gw⟩ by g, x and w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from irprune.kernels.triton.config import Config
from irprune.kernels.triton.source import SUMS, Text
from irprune.specs.poly import PolySpec

Dual = tuple[str, str | None]
"""Names of a value and of its derivative along a direction; None where that is zero."""


@dataclass
class Monomial:
    """A node of the tree."""

    children: dict[int, Monomial] = field(default_factory=dict)
    terms: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    """For each component of the result, (path, coefficient)."""


def tree(spec: PolySpec) -> Monomial:
    """All terms of a spec, by their monomials."""
    root = Monomial()
    for component, path, factors, value in spec.terms:
        node = root
        for factor in factors:
            node = node.children.setdefault(factor, Monomial())
        node.terms.setdefault(component, []).append((path, value))
    return root


@dataclass
class Walk:
    """Writes one program."""

    lines: list[str] = field(default_factory=list)
    results: set[str] = field(default_factory=set)
    """Names of the sums that the program keeps, such as ``gx``."""
    dual: bool = False
    weights: bool = False
    """Whether weights have a derivative along the direction."""
    names: int = 0

    def new(self, text: str) -> str:
        self.names += 1
        self.lines.append(f"t{self.names} = {text}")
        return f"t{self.names}"

    def read(self, name: str, index: int) -> Dual:
        """A component of x, g or w."""
        moves = self.dual and (name == "x" or (name == "w" and self.weights))
        return f"{name}{index}", f"a{name}{index}" if moves else None

    def times(self, a: Dual, b: Dual) -> Dual:
        pairs = ((a[1], b[0]), (a[0], b[1]))
        parts = [f"{x} * {y}" for x, y in pairs if x is not None and y is not None]
        return self.new(f"{a[0]} * {b[0]}"), self.new(" + ".join(parts)) if parts else None

    def combination(self, terms: Sequence[tuple[Dual, float]]) -> Dual:
        """Σ factor · value."""
        slopes = [f"{v!r} * {a[1]}" for a, v in terms if a[1] is not None]
        value = self.new(" + ".join(f"{v!r} * {a[0]}" for a, v in terms))
        return value, self.new(" + ".join(slopes)) if slopes else None

    def total(self, terms: Sequence[Dual]) -> Dual | None:
        if len(terms) < 2:
            return terms[0] if terms else None
        slopes = [a[1] for a in terms if a[1] is not None]
        value = self.new(" + ".join(a[0] for a in terms))
        return value, self.new(" + ".join(slopes)) if slopes else None

    def add(self, name: str, index: int, a: Dual, factor: float = 1.0) -> None:
        """Onto a sum: the value, or of dual numbers the derivative."""
        part = a[1] if self.dual else a[0]
        if name in self.results and part is not None:
            self.lines.append(
                f"{name}{index} += {part if factor == 1.0 else f'{factor!r} * {part}'}"
            )

    def visit(self, node: Monomial, m: Dual | None) -> Dual | None:
        """Writes the subtree of the monomial m (None for 1); gives D where derivatives need it."""
        sloped = "gx" in self.results
        parts = []
        for c, terms in sorted(node.terms.items()):
            if "gw" in self.results:
                grown = self.read("g", c) if m is None else self.times(self.read("g", c), m)
                for p, value in terms:
                    self.add("gw", p, grown, value)
            if not self.results & {"y", "gx"}:
                continue
            coefficient = self.combination([(self.read("w", p), v) for p, v in terms])
            if "y" in self.results:
                self.add("y", c, coefficient if m is None else self.times(coefficient, m))
            if sloped:
                parts.append(self.times(self.read("g", c), coefficient))
        for k, child in sorted(node.children.items()):
            x = self.read("x", k)
            below = self.visit(child, x if m is None else self.times(m, x))
            if sloped and below is not None:
                self.add("gx", k, below if m is None else self.times(m, below))
                parts.append(self.times(x, below))
        return self.total(parts) if sloped else None


@dataclass(frozen=True)
class Kind:
    """One program: what it reads beside x and w, and what it writes."""

    name: str
    reads: tuple[str, ...]
    writes: dict[str, str]
    """Operand that is written → sum of the walk."""


KINDS = (
    Kind("values", (), {"y": "y"}),
    Kind("first_x", ("g",), {"gx": "gx"}),
    Kind("first_xw", ("g",), {"gx": "gx", "gw": "gw"}),
    Kind("second_x", ("g", "ax"), {"hg": "y", "hx": "gx"}),
    Kind("second_xw", ("g", "ax", "aw"), {"hg": "y", "hx": "gx"}),
    Kind("second_w", ("g", "ax"), {"hw": "gw"}),
)
"""Values and derivatives; those by the weights are left out where nobody trains.

Second derivatives by the weights are a program of their own: it needs neither the weights nor what
grows up the tree, and together with the others its sums do not fit into the registers.
"""


def texts(spec: PolySpec, config: Config, acc: torch.dtype) -> tuple[Text, ...]:
    """The programs of a spec: a program is one row of x and a block of channels."""
    root = tree(spec)
    return tuple(_text(spec, root, kind, config, SUMS[acc]) for kind in KINDS)


def _text(spec: PolySpec, root: Monomial, kind: Kind, config: Config, acc: str) -> Text:
    n_x, n_y = spec.dims
    sizes = {"x": n_x, "g": n_y, "w": spec.n_paths, "ax": n_x, "aw": spec.n_paths}
    sums = {"y": n_y, "gx": n_x, "gw": spec.n_paths}
    k = spec.channels
    mask = "" if k % config.block == 0 else f", mask=u < {k}"
    walk = Walk(
        results=set(kind.writes.values()), dual="ax" in kind.reads, weights="aw" in kind.reads
    )
    walk.visit(root, None)
    body = [
        "node = tl.program_id(0).to(tl.int64)",
        "u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        "line = tl.load(which + node)",
    ]
    reads = ("x", "w", *kind.reads)
    for name in reads:
        row = "line" if name in ("w", "aw") else "node"
        body += [
            f"{name}{i} = tl.load({name} + {row} * {sizes[name] * k} + {i * k} + u{mask}).to({acc})"
            for i in range(sizes[name])
        ]
    for total in kind.writes.values():
        body += [f"{total}{i} = tl.zeros([BLOCK], {acc})" for i in range(sums[total])]
    body += walk.lines
    for operand, total in kind.writes.items():
        body += [
            f"tl.store({operand} + node * {sums[total] * k} + {i * k} + u, {total}{i}{mask})"
            for i in range(sums[total])
        ]
    parameters = (
        *((name, "operand") for name in reads),
        *((name, "sum" if name in ("gw", "hw") else "operand") for name in kind.writes),
        ("which", "index"),
    )
    return Text(kind.name, parameters, tuple(body), -(-k // config.block))
