"""Pass, the base class of all passes, and the registry that finds them by name.

Needs neither torch nor any pass: passes register themselves, through the entry-point group
``irprune.passes`` of the distribution that brings them or through ``@register_pass``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from irprune.errors import IrpruneError, PipelineError
from irprune.options import Option, format_value, options_of

if TYPE_CHECKING:
    from irprune.passmanager import PassContext

GROUP = "irprune.passes"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TRAIT = re.compile(r"exact|exact-with-fold|approximate\(.+\)", re.DOTALL)


class Pass:
    """A transformation of a graph. Subclasses are frozen dataclasses whose fields are the options.

    ``requires``, ``refuses``, ``provides`` and ``invalidates`` are facts (short words such as
    ``masks``) that the graph carries from pass to pass. A pass never changes the graph that it
    is given; one that returns that very graph has found nothing to do, and provides nothing.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    trait: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    refuses: ClassVar[tuple[str, ...]] = ()
    provides: ClassVar[tuple[str, ...]] = ()
    invalidates: ClassVar[tuple[str, ...]] = ()
    by_node: ClassVar[bool] = False
    """Whether what the pass does to one node is right whether or not it does the rest.

    Such a pass rewrites through ``Rewriting(graph, context)``, which heeds ``context.only``; ``bisect``
    can then say which nodes it gets wrong.
    """

    def run(self, graph: Any, context: PassContext) -> Any:
        """The transformed graph, a new value."""
        raise NotImplementedError(f"pass {self.name} does not say what it does")

    def text(self) -> str:
        """This pass in pipeline text: its name and the options that differ from their defaults."""
        shown = [
            f"{o.name}={format_value(getattr(self, o.field), o.kind)}"
            for o in self.changed_options()
        ]
        return self.name + (f"{{{','.join(shown)}}}" if shown else "")

    def changed_options(self) -> Iterator[Option]:
        """The options whose value is not the default."""
        for option in options_of(type(self)):
            value = getattr(self, option.field)
            if option.required or value != option.default:
                yield option

    def __str__(self) -> str:
        return self.text()


class PassesNotInstalled(IrpruneError, ImportError):
    """No pass is registered, because the distribution's metadata are not there."""


P = TypeVar("P", bound=type[Pass])

_registered: dict[str, type[Pass]] = {}


def register_pass(cls: P) -> P:
    """Class decorator: makes a pass known under its name.

    Raises:
        PipelineError: another pass has that name, or the class is not a well-formed pass.
    """
    where = f"{cls.__module__}:{cls.__qualname__}"
    for attribute in ("name", "summary", "trait"):
        if not isinstance(getattr(cls, attribute, None), str):
            raise PipelineError(f"pass {where} does not set {attribute!r} to a text")
    if not _NAME.fullmatch(cls.name):
        raise PipelineError(f"pass {where}: the name {cls.name!r} is not lower-case-with-dashes")
    if not _TRAIT.fullmatch(cls.trait):
        raise PipelineError(
            f"pass {where}: the trait {cls.trait!r} is none of exact, exact-with-fold,"
            " approximate(reason)"
        )
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise PipelineError(f"pass {where} is not a frozen dataclass")
    entry = _installed().get(cls.name)
    other = _registered.get(cls.name)
    known = entry.value if entry is not None else where
    if other is not None:
        known = f"{other.__module__}:{other.__qualname__}"
    if known != where:
        raise PipelineError(f"two passes have the name {cls.name!r}: {known} and {where}")
    _registered[cls.name] = cls
    return cls


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PipelineError(
                f"two installed passes have the name {entry.name!r}: {other.value} and"
                f" {entry.value}"
            )
    return found


def _load(entry: EntryPoint) -> type[Pass]:
    try:
        cls = entry.load()
    except Exception as error:
        raise PipelineError(
            f"pass {entry.name!r} is installed as {entry.value} but cannot be loaded:"
            f" {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Pass)) or cls.name != entry.name:
        raise PipelineError(
            f"entry point {entry.name!r} = {entry.value} is not a pass of that name"
        )
    return register_pass(cls)


def pass_names() -> tuple[str, ...]:
    """The names of all passes, without importing any.

    Raises:
        PassesNotInstalled: there is none.
    """
    names = sorted({*_installed(), *_registered})
    if not names:
        raise PassesNotInstalled(
            "no pass is registered, because irprune is not installed:"
            " run `pip install -e .` in its repository, or `pip install irprune`"
        )
    return tuple(names)


def find_pass(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        PipelineError: there is none; lists near matches.
        PassesNotInstalled: there are no passes at all.
    """
    if name in _registered:
        return _registered[name]
    names = pass_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise PipelineError(f"no pass is called {name!r}{hint} (passes: {', '.join(names)})")
    return _load(_installed()[name])


def all_passes() -> dict[str, type[Pass] | PipelineError]:
    """Every pass by name; one that cannot be loaded stands there as its error."""
    out: dict[str, type[Pass] | PipelineError] = {}
    for name in pass_names():
        try:
            out[name] = find_pass(name)
        except PipelineError as error:
            out[name] = error
    return out


def providers(fact: str) -> tuple[str, ...]:
    """The passes that provide a fact."""
    return tuple(
        name for name, cls in all_passes().items() if isinstance(cls, type) and fact in cls.provides
    )
