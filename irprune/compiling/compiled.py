"""A graph whose energies and gradient are one function made by torch.compile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from irprune.errors import IrpruneError, UsageError
from irprune.files import cache_folder

if TYPE_CHECKING:
    from irprune.compiling.joint import (  # it needs sympy: imported where something is compiled
        Joint,
        Parts,
    )

BACKENDS = ("inductor", "aot_eager", "eager")
"""Backends of torch.compile that are known to work. Only the first is fast."""
CACHE = "TORCHINDUCTOR_CACHE_DIR"


class CompileError(IrpruneError):
    """torch.compile failed."""


@dataclass(frozen=True)
class CompileOptions:
    """How a graph is compiled; what the pass ``compile`` notes in a graph."""

    backend: str = "inductor"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(
                f"torch.compile has no backend {self.backend!r} that is known to work here; known"
                f" are {', '.join(BACKENDS)}"
            )

    def __str__(self) -> str:
        return f"compiled by {self.backend}"

    def to_json(self) -> dict[str, Any]:
        return {"backend": self.backend}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CompileOptions:
        return cls(str(found["backend"]))


@dataclass(eq=False)
class _State:
    """What a wrapper has compiled. Never copied or written."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    parts: Parts | None = None
    programs: list[tuple[Joint, Callable[..., Any]]] = field(default_factory=list)
    compilations: int = 0
    reasons: list[str] = field(default_factory=list)
    plain: int = 0


class Compiled(nn.Module):
    """A module, and its energies and gradient as one compiled function for all structures.

    ``forward`` is the module as it is, differentiable as often as it is: for training, and wherever
    energies alone are wanted. ``with_gradient`` is compiled, at its first call. Weights may change in
    place. ``.to()`` forgets what was compiled; copies and pickles hold nothing of it and compile
    anew. Several threads may call it.
    """

    def __init__(self, module: fx.GraphModule, options: CompileOptions | None = None) -> None:
        super().__init__()
        self.module = module
        self.options = options or CompileOptions()
        self._state = _State()

    @property
    def compilations(self) -> int:
        """Programs that torch.compile's backend has made since the last ``.to()``."""
        return self._state.compilations

    @property
    def recompilations(self) -> int:
        """Compilations after the first. Changing the number of torch's threads is a cause."""
        return max(0, self.compilations - 1)

    @property
    def reasons(self) -> tuple[str, ...]:
        """For each compilation: the call that it was made for."""
        return tuple(self._state.reasons)

    @property
    def plain_calls(self) -> int:
        """Calls of ``with_gradient`` that were too small to be compiled."""
        return self._state.plain

    def counts(self) -> dict[str, Any]:
        """Backend and counts, JSON-able."""
        return {
            "backend": self.options.backend,
            "graphs": self.compilations,
            "recompilations": self.recompilations,
            "plain_calls": self.plain_calls,
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        """Atomic energies [N] of (edge vectors, species, edge index, head), not compiled."""
        return self.module(*inputs)

    def with_gradient(self, *inputs: Tensor) -> tuple[Tensor, Tensor] | None:
        """Atomic energies [N] eV and the gradient of their sum by edge vectors [E, 3] eV/Å, detached.

        None where torch would compile a function of its own: no atoms, edges or pairs, or only one.
        The caller then differentiates ``forward``.

        Args:
            inputs: edge vectors [E, 3], species [N], edge index [2, E], head [N].

        Raises:
            CompileError: torch.compile failed.
            LegalityError: an operation that cannot be compiled; names the node.
        """
        from irprune.compiling.joint import sizes_of, split

        state = self._state
        with torch.no_grad():
            # strides are no cause to compile anew
            given = [t.detach().contiguous() for t in inputs]
            if min(sizes_of(given)) > 1:
                if state.parts is None:
                    with state.lock:
                        state.parts = state.parts or split(self.module)
                given += state.parts.lists(*given)
            if min(sizes_of(given)) < 2:
                state.plain += 1
                return None
            function = self._made(given)
            if function is None:
                with state.lock:  # another thread may have made it meanwhile
                    function = self._made(given)
                    if function is None:
                        return self._make(given)
            return self._call(function, given)

    def _made(self, given: Sequence[Tensor]) -> Callable[..., Any] | None:
        return next((f for joint, f in self._state.programs if joint.fits(given)), None)

    def _make(self, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Captures and compiles for what is given, and runs it."""
        from irprune.compiling.joint import capture, no_duck_shapes

        parts = self._state.parts
        assert parts is not None
        joint = capture(parts.rest, given)
        function = torch.compile(joint.module, backend=self._backend, fullgraph=True)
        own = [t.detach() for t in given]
        _open(own)
        with self._cache(), no_duck_shapes():
            found = self._call(function, own, first=True)
        self._state.programs.append((joint, function))
        return found

    def _call(
        self, function: Callable[..., Any], given: Sequence[Tensor], first: bool = False
    ) -> tuple[Tensor, Tensor]:
        before = self.compilations
        try:
            energies, gradient = function(*given)
        except IrpruneError:
            raise
        except Exception as error:
            if first or self.compilations != before or _of_dynamo(error):
                raise _failed(self.options.backend, error) from error
            raise
        if self.compilations != before:
            from irprune.compiling.joint import sizes_of

            kind = "re" * (before > 0) + "compiled"
            edges, atoms = sizes_of(given)[:2]
            self._state.reasons.append(
                f"{kind} for {atoms} atoms and {edges} edges, {given[0].dtype} on {given[0].device},"
                f" {torch.get_num_threads()} threads"
            )
        elif first:
            raise CompileError(
                "torch.compile did nothing: it is disabled in this process (TORCHDYNAMO_DISABLE, or"
                " torch.compiler.set_stance); enable it, or leave compile out"
            )
        return energies, gradient

    def _backend(self, gm: fx.GraphModule, inputs: list[Any]) -> Any:
        """What torch.compile calls for every program: hands on, and counts what was made.

        torch may interrupt a backend to read the function again; that makes no program.
        """
        state = self._state
        made = backend_named(self.options.backend)(gm, inputs)
        state.compilations += 1
        return made

    @contextmanager
    def _cache(self) -> Iterator[None]:
        """Inductor keeps what it compiles in our cache, unless the user says where."""
        before = os.environ.get(CACHE)
        if self.options.backend != "inductor" or before not in (None, _own_default()):
            yield
            return
        os.environ[CACHE] = str(cache_folder("inductor"))
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Compiled:
        self._state = _State()
        made: Compiled = super()._apply(fn, recurse)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_state"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._state = _State()


def backend_named(name: str) -> Callable[[fx.GraphModule, list[Any]], Any]:
    """A backend of torch.compile."""
    from torch._dynamo.backends.registry import lookup_backend

    return lookup_backend(name)


def _own_default() -> str:
    """The folder that inductor takes by itself; it puts that into the environment when imported."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return os.path.abspath(default_cache_dir())


def _open(given: Sequence[Tensor]) -> None:
    """Marks the axes that differ between structures, so that all other sizes stay numbers."""
    from irprune.compiling.joint import ROWS

    axes = (*ROWS, *(0 for _ in given[len(ROWS) :]))
    for tensor, axis in zip(given, axes, strict=True):
        torch._dynamo.mark_dynamic(tensor, axis)


def _of_dynamo(error: BaseException) -> bool:
    return type(error).__module__.startswith("torch._dynamo")


def _failed(backend: str, error: BaseException) -> IrpruneError:
    """The innermost error that torch.compile carries, in one line."""
    from irprune.compiling.joint import first_line

    inner = error
    while (cause := getattr(inner, "inner_exception", None) or inner.__cause__) is not None:
        inner = cause
    if isinstance(inner, IrpruneError):
        return inner
    kind, text = type(inner).__name__, first_line(inner)
    return CompileError(
        f"torch.compile with the backend {backend} failed: {kind}: {text}; run without compile, or"
        " see that a C++ compiler is found (CXX)"
    )


def counts_of(potential: Any) -> dict[str, Any] | None:
    """What a potential has compiled; None where it compiles nothing."""
    module = potential.module
    return module.counts() if isinstance(module, Compiled) else None


def module_of(gm: fx.GraphModule, options: CompileOptions | None) -> nn.Module:
    """The module, compiled where a graph asks for it."""
    return gm if options is None else Compiled(gm, options)
