"""Triton text for the convolutions of a PathSpec: values and gradients.

Rows are ``ir_mul``: within a segment the components come first and the channels of one component lie
side by side, so that the lanes of a program read neighbouring numbers. The Clebsch-Gordan coefficients
are written out. The gradient by features is the convolution again, from receivers to senders, with the
features and the result of every path exchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from irprune.kernels.triton.config import Config
from irprune.kernels.triton.source import SUMS, Text
from irprune.specs.path import PathSpec


@dataclass(frozen=True)
class Path:
    """One path, with places in ``ir_mul`` rows; α is in the couplings."""

    source: int
    """First number of the segment that is read."""
    n_source: int
    """Its components."""
    target: int
    n_target: int
    harmonic: int
    weight: int
    coupling: tuple[tuple[int, int, int, float], ...]
    """(component read, harmonic, component written, value)."""

    def transposed(self) -> Path:
        """The same path with what is read and what is written exchanged."""
        swapped = tuple(sorted((c, b, a, v) for a, b, c, v in self.coupling))
        return Path(
            self.target, self.n_target, self.source, self.n_source, self.harmonic, self.weight,
            swapped,
        )  # fmt: skip

    def harmonics(self) -> set[int]:
        return {self.harmonic + b for _, b, _, _ in self.coupling}

    def matrix(self) -> dict[tuple[int, int], str]:
        """(component read, component written) → the factor between them, of the harmonics y…."""
        table: dict[tuple[int, int], list[str]] = {}
        for a, b, c, value in self.coupling:
            table.setdefault((a, c), []).append(f"{value!r} * y{self.harmonic + b}")
        return {pair: " + ".join(terms) for pair, terms in sorted(table.items())}


@dataclass(frozen=True)
class Group:
    """Paths whose segments hang together through shared features or results; one channel count."""

    mul: int
    paths: tuple[Path, ...]

    def transposed(self) -> Group:
        return Group(self.mul, tuple(p.transposed() for p in self.paths))

    def targets(self) -> list[int]:
        """First number of every component that is written."""
        found = {p.target: p.n_target for p in self.paths}
        return [at + m * self.mul for at, n in sorted(found.items()) for m in range(n)]


@functools.lru_cache(maxsize=1024)
def groups(spec: PathSpec) -> tuple[Group, ...]:
    """The paths of a spec, by the segments that they share."""
    label = {("in", i): i for i in range(len(spec.in1))}
    label |= {("out", o): len(spec.in1) + o for o in range(len(spec.out))}
    for p in spec.paths:
        a, b = label["in", p.i1], label["out", p.out]
        label = {k: min(a, b) if v in (a, b) else v for k, v in label.items()}
    starts1, starts2, starts3 = (spec.offsets(s) for s in (spec.in1, spec.in2, spec.out))
    found: dict[int, list[Path]] = {}
    muls = {}
    for p in spec.paths:
        coupling = tuple((a, b, c, p.coefficient * v) for a, b, c, v in p.coupling)
        made = Path(
            starts1[p.i1], spec.in1[p.i1].dim, starts3[p.out], spec.out[p.out].dim,
            starts2[p.i2], p.weight, coupling,
        )  # fmt: skip
        found.setdefault(label["in", p.i1], []).append(made)
        muls[label["in", p.i1]] = spec.in1[p.i1].mul
    return tuple(Group(muls[k], tuple(found[k])) for k in sorted(found))


@functools.lru_cache(maxsize=1024)
def touched(spec: PathSpec) -> tuple[int, int]:
    """Numbers of a row of the result, and of the gradient by features, that any path writes."""
    found = groups(spec)
    results = sum(len(g.targets()) * g.mul for g in found)
    return results, sum(len(g.transposed().targets()) * g.mul for g in found)


def texts(spec: PathSpec, config: Config, acc: torch.dtype) -> tuple[Text, ...]:
    """All kernels of a spec: ``forward_i`` and ``features_i`` per group, and ``edges``."""
    found = groups(spec)
    d1, d2, d3 = spec.dims
    made = []
    for i, group in enumerate(found):
        sizes = (d1, d2, spec.n_weights, d3)
        made.append(walk(f"forward_{i}", group, sizes, config, acc))
        sizes = (d3, d2, spec.n_weights, d1)
        made.append(walk(f"features_{i}", group.transposed(), sizes, config, acc))
    if found:
        made.append(edges("edges", found, (d1, d2, spec.n_weights, d3), config, acc))
    return tuple(made)


def walk(
    name: str, group: Group, sizes: tuple[int, int, int, int], config: Config, acc: torch.dtype
) -> Text:
    """Gather, product and sum of one group; ``sizes`` are those of a row of every operand.

    ``csr``: a program sums the edges of a node in registers. ``order`` are edges by node, ``ends``
    where those of each node begin, ``other`` the node that an edge reads. ``atomic``: a program adds
    one edge to the node ``own``.
    """
    source, harmonics, weights, target = sizes
    mask = "" if group.mul % config.block == 0 else f", mask=u < {group.mul}"
    operands = (("source", "operand"), ("harmonics", "operand"), ("weights", "operand"))
    message = [
        f"s = source + read * {source} + u",
        f"h = harmonics + edge * {harmonics}",
        f"v = weights + line * {weights} + u",
        *_product(group, mask, SUMS[acc]),
    ]
    channels = "u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)"
    blocks = -(-group.mul // config.block)
    stores = [f"t + {at}, a{at}" for at in group.targets()]
    zeros = [f"a{at} = tl.zeros([BLOCK], {SUMS[acc]})" for at in group.targets()]
    if config.variant == "csr":
        body = [
            "node = tl.program_id(0).to(tl.int64)",
            channels,
            *zeros,
            "first = tl.load(ends + node)",
            "last = tl.load(ends + node + 1)",
            *(_one_ahead(message) if config.stages == 1 else _in_flight(message)),
            f"t = target + node * {target} + u",
            *(f"tl.store({s}{mask})" for s in stores),
        ]
        lists: tuple[str, ...] = ("order", "ends", "other", "row")
        parameters = (*operands, ("target", "operand"), *((n, "index") for n in lists))
        return Text(name, parameters, tuple(body), blocks)
    body = [
        "edge = tl.program_id(0).to(tl.int64)",
        channels,
        *zeros,
        "read = tl.load(other + edge)",
        "line = tl.load(row + edge)",
        *message,
        f"t = target + tl.load(own + edge) * {target} + u",
        *(f'tl.atomic_add({s}{mask}, sem="relaxed")' for s in stores),
    ]
    lists = ("own", "other", "row")
    parameters = (*operands, ("target", "sum"), *((n, "index") for n in lists))
    return Text(name, parameters, tuple(body), blocks)


def _one_ahead(message: Sequence[str]) -> Iterator[str]:
    """Which edge comes next, and what it reads, is loaded while this one is computed: an edge waits for
    memory once, not three times in turn.
    """
    yield "edge = tl.load(order + first, mask=first < last, other=0)"
    yield "later = tl.load(order + first + 1, mask=first + 1 < last, other=0)"
    yield "read = tl.load(other + edge, mask=first < last, other=0)"
    yield "line = tl.load(row + edge, mask=first < last, other=0)"
    yield "for place in tl.range(first, last):"
    yield from _indent(
        [
            "latest = tl.load(order + place + 2, mask=place + 2 < last, other=0)",
            "next_read = tl.load(other + later, mask=place + 1 < last, other=0)",
            "next_line = tl.load(row + later, mask=place + 1 < last, other=0)",
            *message,
            "edge = later",
            "later = latest",
            "read = next_read",
            "line = next_line",
        ]
    )


def _in_flight(message: Sequence[str]) -> Iterator[str]:
    """Triton keeps the loads of several edges in flight; it cannot where an edge is known from the one
    before, so that each is looked up.
    """
    yield "for place in tl.range(first, last, num_stages=STAGES):"
    yield from _indent(
        [
            "edge = tl.load(order + place)",
            "read = tl.load(other + edge)",
            "line = tl.load(row + edge)",
            *message,
        ]
    )


def _product(group: Group, mask: str, acc: str) -> Iterator[str]:
    """Adds the message of one edge to the sums a…; needs s, h and v."""
    read = sorted({b for p in group.paths for b in p.harmonics()})
    yield from (f"y{b} = tl.load(h + {b}).to({acc})" for b in read)
    for segment in sorted({p.source for p in group.paths}):
        mine = [p for p in group.paths if p.source == segment]
        for m in range(mine[0].n_source):
            at = segment + m * group.mul
            yield f"x{m} = tl.load(s + {at}{mask}).to({acc})"
        for p in mine:
            yield f"w = tl.load(v + {p.weight}{mask}).to({acc})"
            yield from _path(p, group.mul)


def _path(p: Path, mul: int) -> Iterator[str]:
    """One path: couplings with the harmonics first, the weight where there are fewer components."""
    matrix = p.matrix()
    first = p.n_source <= p.n_target
    if first:
        yield from (f"z{a} = w * x{a}" for a in sorted({a for a, _ in matrix}))
    for c in sorted({c for _, c in matrix}):
        name = "z" if first else "x"
        total = " + ".join(f"{name}{a} * ({z})" for (a, k), z in matrix.items() if k == c)
        at = p.target + c * mul
        yield f"a{at} += {total}" if first else f"a{at} += w * ({total})"


def edges(
    name: str, found: Iterable[Group], sizes: tuple[int, int, int, int], config: Config,
    acc: torch.dtype,
) -> Text:  # fmt: skip
    """Gradients by harmonics and weights. A program is one row of weights with its edges, at most two.

    ``slots`` [rows, 2] holds the edges of a row, or −1: so every number is written by one program,
    without atomics, and rows that no edge uses get zeros.
    """
    source, harmonics, weights, target = sizes
    kind = SUMS[acc]
    groups_ = tuple(found)
    read = sorted({b for g in groups_ for p in g.paths for b in p.harmonics()})
    body = [
        f"s = source + tl.load(sender + edge, mask=live, other=0) * {source}",
        f"g = upstream + tl.load(receiver + edge, mask=live, other=0) * {target}",
        f"h = harmonics + edge * {harmonics}",
        f"v = weights + line * {weights}",
        f"t = g_weights + line * {weights}",
        *(f"y{b} = tl.load(h + {b}, mask=live, other=0.0).to({kind})" for b in read),
        *(f"b{b} = tl.zeros([BLOCK], {kind})" for b in read),
    ]
    for group in groups_:
        body.append(f"for block in range(0, {-(-group.mul // config.block)}):")
        body += _indent(_edge_gradients(group, kind))
    body += [
        f"r = g_harmonics + edge * {harmonics}",
        *(
            f"tl.store(r + {b}, tl.sum(b{b}, 0), mask=live)"
            if b in read
            else f"tl.store(r + {b}, 0.0, mask=live)"
            for b in range(harmonics)
        ),
    ]
    body = [
        "line = tl.program_id(0).to(tl.int64)",
        "for slot in range(0, 2):",
        "    found = tl.load(slots + line * 2 + slot)",
        "    live = found >= 0",
        "    again = line + slot > line  # a tensor, also where the interpreter has numbers",
        "    if live or not again:",
        "        edge = tl.maximum(found, 0)",
        *_indent(_indent(body)),
        "    tl.debug_barrier()",
    ]
    operands = ("source", "harmonics", "weights", "upstream", "g_harmonics")
    parameters = (
        *((n, "operand") for n in operands),
        ("g_weights", "operand"),
        *((n, "index") for n in ("slots", "sender", "receiver")),
    )
    return Text(name, parameters, tuple(body), 1)


def _edge_gradients(group: Group, kind: str) -> Iterator[str]:
    """Writes the gradient by the weights of a block of channels; adds to that by the harmonics, b…."""
    yield "u = block * BLOCK + tl.arange(0, BLOCK)"
    yield f"inside = u < {group.mul}"
    yield f"both = u < tl.where(live, {group.mul}, 0)"
    yield f"added = u < tl.where(again, {group.mul}, 0)"
    for segment in sorted({p.source for p in group.paths}):
        mine = [p for p in group.paths if p.source == segment]
        for m in range(mine[0].n_source):
            at = segment + m * group.mul
            yield f"x{m} = tl.load(s + {at} + u, mask=both, other=0.0).to({kind})"
        for p in mine:
            yield f"w = tl.load(v + {p.weight} + u, mask=both, other=0.0).to({kind})"
            for c in sorted({c for _, _, c, _ in p.coupling}):
                at = p.target + c * group.mul
                yield f"g{c} = tl.load(g + {at} + u, mask=both, other=0.0).to({kind})"
            table: dict[int, list[str]] = {}
            for a, b, c, value in p.coupling:
                table.setdefault(p.harmonic + b, []).append(f"{value!r} * (x{a} * g{c})")
            for b, terms in sorted(table.items()):
                yield f"q{b} = {' + '.join(terms)}"
                yield f"b{b} += w * q{b}"
            total = " + ".join(f"y{b} * q{b}" for b in sorted(table)) or "0.0 * w"
            yield f"place = t + {p.weight} + u"
            yield "before = tl.load(place, mask=added, other=0.0)"
            yield f"tl.store(place, before.to({kind}) + {total}, mask=inside)"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
