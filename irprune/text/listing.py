"""Listing: what a text says about a graph, as values that compare and print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irprune.text.values import implied_function, print_argument, print_type

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph


@dataclass(frozen=True)
class CostNote:
    """What a call costs: blocks of its result, parameters, FLOPs of the forward pass per row."""

    blocks: int
    params: int
    flops: float
    per: str
    """What the FLOPs are counted per: node, edge, pair, graph or any."""

    def __str__(self) -> str:
        flops = repr(float(self.flops)).removesuffix(".0")
        return f"{self.blocks} blocks, {self.params} params, {flops} FLOPs per {self.per}"


@dataclass(frozen=True)
class Statement:
    """One value: how it is made, its type, and what it costs."""

    name: str
    kind: str
    """input, parameter, module, function, method or return."""
    type: Any
    op: str
    """The name of the op, ``barrier`` where there is none; empty where nothing is called."""
    target: str
    """Path of the module or parameter, name of the input, the function or the method."""
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    cost: CostNote | None = None

    def __str__(self) -> str:
        call = ", ".join(
            [*map(print_argument, self.args), *(f"{k}={print_argument(v)}" for k, v in self.kwargs)]
        )
        if self.kind == "return":
            return f"return {call}" + ("" if self.name == "output" else f" {{{self.name}}}")
        head = f"%{self.name} : {print_type(self.type)} = "
        if self.kind == "input":
            default = f"({call})" if call else ""
            return f"{head}input{default}" + (
                "" if self.target == self.name else f" {{{self.target}}}"
            )
        if self.kind == "parameter":
            return f"{head}parameter {{{self.target}}}"
        called = {"function": f"{self.target}()", "method": f".{self.target}()"}.get(
            self.kind, self.target
        )
        silent = self.kind == "function" and self.target == implied_function(self.op)
        return f"{head}{self.op}({call})" + ("" if silent else f" {{{called}}}")


@dataclass(frozen=True)
class AxisLine:
    """Coupled groups of one axis, and the other values whose blocks go with them."""

    name: str
    kind: str
    irrep: str
    groups: int
    node: str
    segment: int
    others: tuple[str, ...] = ()
    kept: tuple[int, ...] | None = None
    """The groups that ``select`` keeps; None where nothing is selected."""

    def __str__(self) -> str:
        line = f"axis {self.name} : {self.kind}[{self.groups}x{self.irrep}]"
        line += f" at %{self.node} segment {self.segment}"
        if self.others:
            line += f" with {', '.join(f'%{n}' for n in self.others)}"
        return line if self.kept is None else f"{line} keep {print_ranges(self.kept)}"


@dataclass(frozen=True)
class FixedLine:
    """Blocks that nothing may remove, and why."""

    blocks: int
    reason: str

    def __str__(self) -> str:
        return f"fixed {self.blocks} blocks: {self.reason}"


@dataclass(frozen=True)
class TensorLine:
    """A parameter or buffer of the model."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"tensor {self.path} : {self.dtype}[{'x'.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class KernelsLine:
    """What ``select-kernels`` chose, in words (:class:`irprune.kernelplan.KernelPlan`)."""

    said: str

    def __str__(self) -> str:
        return f"kernels {self.said}"


@dataclass(frozen=True)
class Listing:
    """The statements of a graph in order; axes, fixed blocks and tensors where they were asked for."""

    statements: tuple[Statement, ...]
    axes: tuple[AxisLine, ...] = ()
    fixed: tuple[FixedLine, ...] = ()
    tensors: tuple[TensorLine, ...] = ()
    compiled: str | None = None
    """The backend of torch.compile, where the graph is compiled."""
    kernels: KernelsLine | None = None

    @classmethod
    def of(
        cls,
        graph: EquivariantGraph,
        *,
        costs: bool = False,
        groups: bool = False,
        tensors: bool = False,
    ) -> Listing:
        """What the text of a graph says; see :func:`irprune.text.build.listing_of`."""
        from irprune.text.build import listing_of

        return listing_of(graph, costs=costs, groups=groups, tensors=tensors)

    def __str__(self) -> str:
        lines = [f"{s}  ; {s.cost}" if s.cost else str(s) for s in self.statements]
        if self.compiled is not None:
            lines.append(f"compiled by {self.compiled}")
        if self.kernels is not None:
            lines.append(str(self.kernels))
        lines += [str(x) for x in (*self.axes, *self.fixed, *self.tensors)]
        return "\n".join(lines)


def print_ranges(numbers: tuple[int, ...]) -> str:
    """Ascending numbers with runs joined: ``0-3,7``; ``none`` where there is none."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"
