"""KernelPlan: which backend serves each node of a graph, and why others do not, as a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import fx

from irprune.backends import Decline, Spec, backend_named, refusals
from irprune.errors import UsageError
from irprune.ops.base import op_of_node


@runtime_checkable
class OnKernels(Protocol):
    """A module that hands its spec to a backend."""

    spec: Spec
    backend: str
    """``auto``, or the one backend that may serve it, as ``irprune.backends.choose`` takes it."""


@dataclass(frozen=True)
class KernelChoice:
    """What was chosen for one node."""

    node: str
    module: str
    """Path of the module that the node calls."""
    op: str
    key: str
    """Of the spec."""
    backend: str
    bound: bool
    """Whether no other backend may serve the node where the graph runs on such a device."""
    declined: tuple[Decline, ...]
    """Every backend that does not serve the node, the first that was asked first."""

    def __str__(self) -> str:
        only = " and no other" if self.bound else ""
        return f"{self.node}: {self.backend}{only}"

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "module": self.module,
            "op": self.op,
            "spec": self.key,
            "backend": self.backend,
            "bound": self.bound,
            "declined": [
                {"backend": d.backend, "reason": d.reason, "meant": d.meant} for d in self.declined
            ],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> KernelChoice:
        node, module, op, key, backend = (
            str(found[k]) for k in ("node", "module", "op", "spec", "backend")
        )
        declined = tuple(
            Decline(str(d["backend"]), str(d["reason"]), meant=bool(d["meant"]))
            for d in found["declined"]
        )
        return cls(node, module, op, key, backend, bool(found["bound"]), declined)


@dataclass(frozen=True)
class KernelPlan:
    """The choice for every node that a kernel could serve, on one kind of device in one precision."""

    wanted: str
    """``auto``, or the backend that was asked for wherever it serves."""
    device: str
    dtype: str
    choices: tuple[KernelChoice, ...]

    def counts(self) -> dict[str, int]:
        """Backend → nodes that it serves."""
        out: dict[str, int] = {}
        for c in self.choices:
            out[c.backend] = out.get(c.backend, 0) + 1
        return out

    def __str__(self) -> str:
        served = ", ".join(f"{n} by {name}" for name, n in self.counts().items())
        return f"kernels for {self.device}, {self.dtype}: {served or 'no node has any'}"

    def to_json(self) -> dict[str, Any]:
        return {
            "wanted": self.wanted,
            "device": self.device,
            "dtype": self.dtype,
            "nodes": [c.to_json() for c in self.choices],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> KernelPlan:
        choices = tuple(KernelChoice.from_json(c) for c in found["nodes"])
        return cls(str(found["wanted"]), str(found["device"]), str(found["dtype"]), choices)


def kernel_nodes(gm: fx.GraphModule) -> Iterator[tuple[fx.Node, OnKernels]]:
    """The nodes that call a module with a spec, in order, and the modules."""
    for node in gm.graph.nodes:
        if node.op == "call_module":
            module = gm.get_submodule(str(node.target))
            if isinstance(module, OnKernels):
                yield node, module


def plan_kernels(
    gm: fx.GraphModule,
    wanted: str = "auto",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> KernelPlan:
    """Asks every backend about every such node.

    Args:
        gm: the traced graph.
        wanted: a backend that is taken wherever it serves, and is the only one there; ``auto`` takes
            the one of the highest rank that serves.
        device: that the graph is to run on. It need not be there.
        dtype: that it runs in; by default that of its first parameter or buffer.

    Raises:
        UsageError: no such backend or device.
    """
    place = device_named(device)
    if wanted != "auto":
        backend_named(wanted)
    dtype = dtype or dtype_of(gm)
    choices = []
    for node, module in kernel_nodes(gm):
        said = refusals(module.spec, place, dtype)
        serving = [name for name, refusal in said.items() if refusal is None]
        bound = wanted in serving
        op = op_of_node(node, module)  # type: ignore[arg-type]
        choices.append(
            KernelChoice(
                node.name,
                str(node.target),
                "module" if op is None else op.name,
                module.spec.key,
                wanted if bound else serving[0],
                bound,
                tuple(replace(d, loud=False) for d in said.values() if d is not None),
            )
        )
    name = str(dtype).removeprefix("torch.")
    return KernelPlan(wanted, str(place), name, tuple(choices))


def bind(gm: fx.GraphModule, plan: KernelPlan) -> None:
    """Writes the plan into the modules of the graph, in place: where it is bound, and ``auto``."""
    for module, backend in _bindings(gm, plan):
        module.backend = backend


def is_bound(gm: fx.GraphModule, plan: KernelPlan) -> bool:
    """Whether the modules are as ``bind`` makes them."""
    return all(module.backend == backend for module, backend in _bindings(gm, plan))


def _bindings(gm: fx.GraphModule, plan: KernelPlan) -> Iterator[tuple[OnKernels, str]]:
    for choice in plan.choices:
        module = gm.get_submodule(choice.module)
        assert isinstance(module, OnKernels)
        bound = f"{choice.backend}@{torch.device(plan.device).type}"
        yield module, bound if choice.bound else "auto"


def dtype_of(gm: fx.GraphModule) -> torch.dtype:
    """The precision of the first floating-point parameter or buffer; float32 without any."""
    for tensors in (gm.parameters(), gm.buffers()):
        for t in tensors:
            if t.is_floating_point():
                return t.dtype
    return torch.float32


def device_named(name: str) -> torch.device:
    """A device as torch writes it, there or not.

    Raises:
        UsageError: torch knows no such device.
    """
    try:
        return torch.device(name)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no device is called {name!r}: {reason}") from None


def moved(plan: KernelPlan, now: KernelPlan) -> Sequence[tuple[KernelChoice, KernelChoice]]:
    """Nodes that another backend serves now than when the plan was made: (then, now)."""
    found = {c.node: c for c in now.choices}
    pairs = ((c, found[c.node]) for c in plan.choices if c.node in found)
    return [(then, here) for then, here in pairs if then.backend != here.backend]
