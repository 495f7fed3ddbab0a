"""OpDef, the registry of operations, and what an OpDef sees of a graph node."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from irprune.errors import IrrepsTypeError, UsageError
from irprune.irreps import BoolMask, IrrepsType, Layout, Space

if TYPE_CHECKING:
    from irprune.blocks import Coupler
    from irprune.specs.poly import PolySpec


Needs = tuple[list[BoolMask | None], dict[str, BoolMask]]
"""What ``OpDef.needed`` finds: units of each operand, and entries of each axis."""


class Trait(str, Enum):
    """The claim an op makes about slicing it; the verifier checks the claim made."""

    EXACT = "exact"
    EXACT_WITH_FOLD = "exact-with-fold"
    APPROXIMATE = "approximate"


class LayoutRole(str, Enum):
    """What a call makes of the layout of flat rows."""

    FIXED = "fixed"
    """It reads and gives rows in ``mul_ir``."""
    ANY = "any"
    """It computes the same in every layout, and is as fast, if all its rows lie alike."""
    KERNEL = "kernel"
    """As ``ANY``, and one layout is the one that its kernels read without conversions."""


@dataclass(frozen=True)
class Other:
    """A value that carries no irreps: an index tensor, a parameter, a shape, a plain number.

    ``kind`` is one of ``index`` (integer tensor; ``rows`` names its space), ``param`` (a tensor of
    the model, ``shape`` known), ``shape``, ``const`` (``value`` known), ``mask`` (a boolean tensor),
    ``none``, ``edge_index`` ([2, E]), ``zeros`` (an empty target to add rows into), ``unknown``
    (what a barrier returns).
    """

    kind: str
    rows: str | None = None
    shape: tuple[int, ...] | None = None
    value: Any = None
    width_of: str | None = field(default=None, compare=False)
    """The node whose width (or shape) this is: where the value comes from, which its operands say."""

    def __str__(self) -> str:
        detail = self.rows or (
            "x".join(map(str, self.shape or ())) if self.kind == "param" else self.value
        )
        return self.kind if detail in (None, "") else f"{self.kind}[{detail}]"


UNKNOWN = Other("unknown")
BEHIND = "it reads a value without a type"
"""``Site.why`` of a call behind a barrier whose result is typed by what reads it."""


@dataclass(frozen=True)
class Cost:
    """Parameters, and floating-point operations per row of the op's result (2 per multiply-add).

    ``matmul`` is the part of ``flops`` that linear maps and radial networks do as matrix products:
    exactly what torch's FLOP counter counts for them. Tensor products are left out of it: e3nn
    chooses an order of contraction for every shape, and the counter sees only those of its steps
    that become a matrix product. What it counts there is at most ``flops``.
    """

    params: int = 0
    flops: float = 0.0
    matmul: float = 0.0
    space: Space | None = None
    """What the FLOPs are counted per, where it is not the rows of the result."""


@dataclass(frozen=True)
class Site:
    """One graph node as its OpDef sees it: operands in call order, their types, and the module."""

    node: fx.Node
    module: nn.Module | None
    operands: tuple[fx.Node, ...]
    types: tuple[Any, ...]
    out: Any = None
    why: str = ""
    """Why the call is a barrier; empty where it is none."""

    @property
    def source(self) -> str:
        """``file:line`` of the call in the user's code; empty where it is not known."""
        return str(self.node.meta.get("source", ""))

    @property
    def where(self) -> str:
        """Node name and module path, for error messages."""
        target = self.node.target
        if self.node.op == "call_module":
            return f"{self.node.name} (module {target})"
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        return f"{self.node.name} ({name})"

    def irreps(self, i: int) -> IrrepsType:
        """The irreps type of operand ``i``.

        Raises:
            IrrepsTypeError: the operand carries no irreps; names both nodes.
        """
        t = self.types[i]
        if not isinstance(t, IrrepsType):
            raise IrrepsTypeError(
                f"{self.where} needs irreps as operand {i}, but {self.operands[i].name} is {t}"
            )
        return t

    @property
    def result(self) -> IrrepsType:
        if not isinstance(self.out, IrrepsType):
            raise IrrepsTypeError(f"{self.where} gives {self.out}, not irreps")
        return self.out

    def expect(self, i: int, irreps: str, layout: Layout = Layout.MUL_IR) -> IrrepsType:
        """Operand ``i``, checked to have the units of ``irreps`` in a flat layout."""
        return self.expect_type(i, IrrepsType.parse(irreps, layout=layout))

    def expect_type(self, i: int, want: IrrepsType) -> IrrepsType:
        """Operand ``i``, checked to have the units and the layout of ``want``."""
        got = self.irreps(i)
        if not got.same_units(want):
            layout = "" if want.layout is Layout.MUL_IR else f" in layout {want.layout.value}"
            raise IrrepsTypeError(
                f"{self.where} expects {want.irreps}{layout} as operand {i},"
                f" but {self.operands[i].name} gives {got}"
            )
        return got


def kernel_role(site: Site, segments: IrrepsType) -> LayoutRole:
    """Of a module with kernels: ``KERNEL`` where operand 0 is split into segments as the module is."""
    return LayoutRole.KERNEL if site.irreps(0).same_rows(segments) else LayoutRole.FIXED


@dataclass(frozen=True)
class Keep:
    """Which units of a node's operands, result and internal axes stay; None where no irreps."""

    operands: tuple[BoolMask | None, ...]
    out: BoolMask | None
    axes: dict[str, BoolMask] = field(default_factory=dict)

    def operand(self, i: int) -> BoolMask:
        mask = self.operands[i]
        assert mask is not None
        return mask

    @property
    def result(self) -> BoolMask:
        assert self.out is not None
        return self.out


Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class WeightRows:
    """Effective weights (normalisation folded in) that read or make units: a row for each unit.

    Each list goes through the units in order, as matrices [n, d] of n units that follow each other;
    rows of one matrix can be compared, as column j stands for the same partner in all of them.
    """

    operands: tuple[Sequence[Matrix], ...] = ()
    out: Sequence[Matrix] = ()
    axes: Mapping[str, Sequence[Matrix]] = field(default_factory=dict)
    """Entries of an op's internal axes, likewise."""


class OpDef:
    """What one operation means. Subclasses override what differs from an elementwise linear map.

    Masks are numpy bool arrays over units. ``axes`` are the op's own dimensions that no value shows
    (hidden neurons, tensor-product paths, orders of a contraction): ``axes(site)`` names their sizes.
    """

    name: ClassVar[str]
    targets: ClassVar[tuple[Any, ...]] = ()
    """Qualified class names, functions, or ``method:NAME`` strings that this op stands for."""
    trait: ClassVar[Trait] = Trait.EXACT
    reason: ClassVar[str] = ""
    """Why the op is approximate, where it is."""
    row_wise: ClassVar[bool] = False
    """Whether a row of the result depends on the same row of the operands, and on no other."""
    holds_width: ClassVar[bool] = False
    """Whether arguments of the call hold the width of a value that is computed from its result."""
    ties_calls: ClassVar[bool] = True
    """Whether all calls of one module keep the same blocks, as they do where it has weights."""

    def infer(self, site: Site) -> Any:
        """The type of the result.

        Raises:
            IrrepsTypeError: operands that do not fit; names both nodes.
            UnknownForm: a form of the call that the op does not know; the call becomes a barrier.
        """
        return site.types[0]

    def expects(self, module: nn.Module) -> tuple[str | None, ...]:
        """Irreps that a module op takes, operand by operand; None where the op does not say.

        A barrier whose result goes into such a module is taken to return these irreps.
        """
        one = getattr(module, "irreps_in", None)
        if one is not None:
            return (str(one),)
        two = (getattr(module, "irreps_in1", None), getattr(module, "irreps_in2", None))
        return tuple(None if t is None else str(t) for t in two)

    def axes(self, site: Site) -> dict[str, int]:
        return {}

    def couple(self, site: Site, c: Coupler) -> None:
        """States relations between units: ``c.same``, ``c.product``, ``c.fixed``."""
        c.same(c.operand(0), c.out)

    def nonzero(
        self, site: Site, nz: Sequence[BoolMask | None], axes: dict[str, BoolMask]
    ) -> BoolMask | None:
        """Units of the result that may be non-zero, given those of the operands."""
        return nz[0]

    def needed(
        self,
        site: Site,
        need: BoolMask | None,
        nz: Sequence[BoolMask | None],
        axes: dict[str, BoolMask],
    ) -> Needs:
        """Units of the operands, and entries of the axes, that the needed results read."""
        return [need if n is not None else None for n in nz], {}

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        """A smaller module with the folds done; None where nothing is stored (functions)."""
        return None

    def slice_call(
        self, site: Site, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of the call after slicing (constant offsets and sizes change)."""
        return args, kwargs

    def cost(self, site: Site, keep: Keep) -> Cost:
        out = keep.out
        return Cost(flops=float(out.sum()) if out is not None else 0.0)

    def weight_rows(self, site: Site) -> WeightRows | None:
        """Effective weights at each unit; None where the op has no weights of its own."""
        return None

    def apply(
        self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any], axes: dict[str, Tensor]
    ) -> Any:
        """Runs the op with multipliers on its internal axes (1 keeps, 0 removes).

        Only called for ops that have axes.
        """
        raise IrrepsTypeError(f"{site.where}: op {self.name} has no internal axes to scale")

    def reads(self, site: Site) -> tuple[int, ...]:
        """The operands that the result depends on."""
        return tuple(range(len(site.operands)))

    def layout_role(self, site: Site) -> LayoutRole:
        """What the call makes of the layout of its rows; ``FIXED`` is right for every op."""
        return LayoutRole.FIXED

    def laid_out(self, site: Site, layout: Layout) -> nn.Module:
        """The module of a call that is not ``FIXED``, for rows in another flat layout."""
        assert site.module is not None
        return site.module

    def takes_components(self, site: Site) -> tuple[int, ...]:
        """The operands whose components are read; of the others, only how many rows they have."""
        return tuple(range(len(site.operands)))

    def spec(self, module: nn.Module) -> dict[str, Any]:
        """JSON-able description from which :meth:`build` makes an equal module, tensors aside."""
        raise UsageError(f"op {self.name} cannot be written to a graph file")

    def build(self, spec: dict[str, Any]) -> nn.Module:
        raise UsageError(f"op {self.name} cannot be read from a graph file")

    def symmetrized(self, site: Site) -> nn.Module | None:
        """An equal module over a smaller basis; None where the op has no other basis.

        Raises:
            ExactnessError: no smaller basis gives the same function; says by how much it misses.
        """
        return None

    def limited(self, site: Site, order: int) -> nn.Module | None:
        """The module without terms of more than ``order`` factors; the module itself where it has
        none, and None where the op has no such orders.
        """
        return None

    def polynomial(self, site: Site) -> tuple[PolySpec, Tensor] | None:
        """The op as a polynomial of operand 0, with weights [elements, paths, channels] that
        operand 1, one-hot elements, chooses from; None where it is no such thing.
        """
        return None

    def capturable(self, module: nn.Module) -> nn.Module:
        """The module that ``compile`` reads in the place of this one, with the same parameters.

        It runs no TorchScript and decides nothing by values. The module itself where that is so.
        """
        return module

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        """A second, plain evaluation to test against; None where the call is its own reference."""
        return None


_BY_CLASS: dict[Any, OpDef] = {}
_BY_CALL: dict[Any, OpDef] = {}
_BY_NAME: dict[str, OpDef] = {}

D = TypeVar("D", bound=type[OpDef])


def register_op(definition: D) -> D:
    """Class decorator: makes an OpDef known under its name and for all its targets.

    Raises:
        UsageError: another op has the name, or stands for one of the targets.
    """
    op = definition()
    if op.name in _BY_NAME:
        raise UsageError(f"an op named {op.name!r} is already registered")
    for target in op.targets:
        other = _table(target).get(target)
        if other is not None:
            raise UsageError(
                f"op {op.name!r} stands for {target}, which op {other.name!r} already does"
            )
    _BY_NAME[op.name] = op
    for target in op.targets:
        _table(target)[target] = op
    return definition


def _table(target: Any) -> dict[Any, OpDef]:
    """Where a target is looked up: a class by its name, or a function or method."""
    by_class = isinstance(target, str) and not target.startswith("method:")
    return _BY_CLASS if by_class else _BY_CALL


def qualified(cls: type) -> str:
    """Module and name of a class, the key that module ops are registered under."""
    return f"{cls.__module__}.{cls.__qualname__}"


def op_of_class(cls: type) -> OpDef | None:
    """The op of a module class or of the nearest of its bases."""
    return next((op for c in cls.__mro__ if (op := _BY_CLASS.get(qualified(c)))), None)


def op_of_node(node: fx.Node, module: nn.Module | None) -> OpDef | None:
    """The op that a graph node calls; None for a barrier."""
    if node.op == "call_module":
        return op_of_class(type(module))
    if node.op == "call_method":
        return _BY_CALL.get(f"method:{node.target}")
    return _BY_CALL.get(node.target)


def op_at(site: Site) -> OpDef | None:
    """The op of a call; None for a barrier, also where an op exists but not for this form."""
    return None if site.why else op_of_node(site.node, site.module)


def op_named(name: str) -> OpDef:
    """The op with this name.

    Raises:
        UsageError: there is none; lists the registered ones.
    """
    op = _BY_NAME.get(name)
    if op is None:
        raise UsageError(f"no op named {name!r}; registered: {', '.join(sorted(_BY_NAME))}")
    return op


def registered_ops() -> Iterator[OpDef]:
    """All ops, by name."""
    yield from (_BY_NAME[n] for n in sorted(_BY_NAME))


def load_builtin_ops() -> None:
    """Imports the modules of this package, which register their ops."""
    for name in (
        "structure",
        "addition",
        "multiplication",
        "scalar_functions",
        "copies",
        "masks",
        "lengths",
        "indexing",
        "shaping",
        "concatenation",
        "heads",
        "widths",
        "scatter",
        "edges",
        "norms",
        "scale",
        "mixing",
        "embedding",
        "linear",
        "tensor_product",
        "harmonics",
        "gate",
        "radial",
        "convolution",
        "polynomial",
        "elements",
        "dense",
        "table",
        "cueq.linear",
        "cueq.transpose",
        "cueq.products",
        "cueq.contraction",
        "layout",
    ):
        importlib.import_module(f"irprune.ops.{name}")


def zeros(n: int) -> BoolMask:
    """A mask of nothing."""
    return np.zeros(n, dtype=bool)
