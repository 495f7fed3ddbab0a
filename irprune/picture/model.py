"""What a picture of a graph shows, as plain values: boxes with their places, edges, bands, groups.

Lengths are in CSS pixels, x to the right, y down, from the upper left corner of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

MEASURES = ("irreps", "params", "flops", "score", "time")
"""What boxes can say of themselves; ``score`` and ``time`` only where they are known."""


@dataclass(frozen=True)
class Stripe:
    """The copies of one irrep in a value."""

    ir: str
    """Such as ``1o``."""
    now: int
    """Copies that are there and not selected to go."""
    before: int
    """Copies of the same value before; equal to ``now`` where nothing went."""

    @property
    def order(self) -> int:
        return int(self.ir[:-1])


@dataclass(frozen=True)
class Rect:
    """Where something lies."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        """Of the vertical extent."""
        return self.y + self.height / 2

    def moved(self, x: float, y: float) -> Rect:
        return Rect(self.x + x, self.y + y, self.width, self.height)

    def overlaps(self, other: Rect) -> bool:
        return (
            self.x < other.right
            and other.x < self.right
            and self.y < other.bottom
            and other.y < self.bottom
        )


@dataclass(frozen=True)
class Value:
    """One node of a graph, before it has a place."""

    name: str
    kind: str
    """input, parameter, module, function, method or return."""
    op: str
    """Name of the op; ``barrier`` where no op knows the call, the kind where nothing is called."""
    called: str
    """Path of the module or parameter, the function or the method."""
    layer: str
    type: str
    """As the textual IR prints it."""
    stripes: tuple[Stripe, ...] = ()
    """By order and parity; empty where the value carries no irreps."""
    params: int = 0
    flops: float = 0.0
    """Per atom."""
    score: float | None = None
    """Sum of the scores of the coupled groups that have blocks in the value; None without scores."""
    seconds: float | None = None
    """Forward and backward, where the model was profiled."""
    reads: tuple[str, ...] = ()
    frozen: str = ""
    """Why none of its blocks can be removed; empty where some can."""
    why: str = ""
    """Why the call is a barrier; empty where it is none."""
    groups: tuple[str, ...] = ()
    """Names of the axes whose coupled groups have blocks in it."""
    state: str = ""
    """``gone`` (not in the other graph), ``new`` (likewise), ``changed`` (another type there), or
    empty."""

    @property
    def plain(self) -> bool:
        """Whether it is known to carry no irreps: indices, shapes, numbers, parameters."""
        return not (self.stripes or self.why or self.type == "unknown" or self.kind == "return")

    @property
    def wide(self) -> bool:
        """Whether it is a call of a module, not a gather, a sum or the like."""
        return self.kind == "module" or self.op == "barrier" or self.params > 0

    @property
    def short(self) -> str:
        """The last part of what is called; the type of what a function gives."""
        return self.called.rpartition(".")[2] if self.kind == "module" else self.type

    def measure(self, name: str) -> float | None:
        """A number of :data:`MEASURES`."""
        return {
            "params": float(self.params), "flops": self.flops, "score": self.score,
            "time": self.seconds,
        }[name]  # fmt: skip


@dataclass(frozen=True)
class Group:
    """The coupled groups of one axis, and where they have blocks."""

    name: str
    kind: str
    ir: str
    size: int
    kept: int
    """How many are not selected to go."""
    members: tuple[str, ...]
    """Names of nodes."""


@dataclass(frozen=True)
class Box:
    """A node with its place."""

    value: Value
    rect: Rect
    band: int
    """Its number in ``Picture.bands``."""


@dataclass(frozen=True)
class Port:
    """Where a band takes in a value that another band makes."""

    source: str
    """The node that makes it."""
    label: str
    rect: Rect
    band: int


@dataclass(frozen=True)
class Edge:
    """A value with irreps on its way to a reader."""

    source: str
    """The node that makes the value, also where the edge begins at a port."""
    target: str
    """The node that reads it; the maker itself where the edge ends at a port."""
    points: tuple[tuple[float, float], ...]
    between: bool = False
    """Whether it leads from one band to a port of the next."""


@dataclass(frozen=True)
class Band:
    """The nodes of one layer, or a part of them where one row cannot hold them."""

    label: str
    rect: Rect
    params: int
    flops: float
    """Per atom."""
    dots: int = 0
    """How many values without irreps are in it."""


@dataclass(frozen=True)
class Picture:
    """A graph laid out by layer."""

    boxes: tuple[Box, ...]
    """Every node of the graph once, in graph order."""
    ports: tuple[Port, ...]
    edges: tuple[Edge, ...]
    bands: tuple[Band, ...]
    groups: tuple[Group, ...]
    width: float
    height: float
    name: str = ""
    ends: Mapping[str, str] = field(default_factory=dict)
    """Node that ends a layer → the layer."""

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Those of :data:`MEASURES` that are known."""
        known = {
            "score": any(b.value.score is not None for b in self.boxes),
            "time": any(b.value.seconds is not None for b in self.boxes),
        }
        return tuple(m for m in MEASURES if known.get(m, True))

    def total(self, measure: str) -> float:
        """The sum of a measure over all nodes."""
        return sum(b.value.measure(measure) or 0.0 for b in self.boxes)
