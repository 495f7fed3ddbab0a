"""select-kernels: which backend serves each convolution, polynomial, table and linear map."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irprune.errors import UsageError
from irprune.passmanager import Pass, PassContext

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph
    from irprune.kernelplan import KernelPlan


@dataclass(frozen=True)
class SelectKernels(Pass):
    """Asks every backend about every node that a kernel could serve, and notes what each said.

    With ``auto`` the nodes stay free: where the graph runs, the choice is made again. A backend that
    is named is bound to the nodes that it serves: on that kind of device no other may serve them.
    """

    backend: str = "auto"
    """Taken wherever it serves; auto: the one of the highest rank."""
    require: str | None = None
    """A backend that must serve every such node that it is meant for."""
    device: str = "cpu"
    """What the graph is to run on."""
    dtype: str | None = None
    """float32 or float64; default that of the graph."""

    name: ClassVar[str] = "select-kernels"
    summary: ClassVar[str] = "which backend serves each node, with every decline"
    trait: ClassVar[str] = "exact"

    def run(self, graph: EquivariantGraph, context: PassContext) -> EquivariantGraph:
        """The graph with its plan.

        Raises:
            UsageError: no such backend, device or precision; or the required one declines a node.
        """
        import torch

        from irprune.kernelplan import bind, is_bound, plan_kernels

        if self.require is not None and self.backend not in ("auto", self.require):
            raise UsageError(
                f"select-kernels cannot require {self.require} and take {self.backend}; give one"
            )
        if self.dtype not in (None, "float32", "float64"):
            raise UsageError(f"unknown dtype {self.dtype!r}; known are float32, float64")
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        plan = plan_kernels(graph.gm, self.require or self.backend, self.device, dtype)
        if self.require is not None:
            demand(plan, self.require)
        context.results[self.name] = plan.to_json()
        if is_bound(graph.gm, plan):
            return graph.replace(kernels=plan)
        gm = copy.deepcopy(graph.gm)
        bind(gm, plan)
        return graph.replace(gm=gm, kernels=plan)


def demand(plan: KernelPlan, backend: str) -> None:
    """Refuses a plan in which a backend serves no node, or not one that it is meant for.

    Raises:
        UsageError: names the node and the reason.
    """
    if not plan.choices:
        raise UsageError(
            f"the kernel {backend} is required, but no node of the graph can have one; run fuse-conv,"
            " lower-contraction or fuse-linear before select-kernels"
        )
    said = {c: d for c in plan.choices for d in c.declined if d.backend == backend}
    missed = [c for c, d in said.items() if d.meant]
    if len(said) == len(plan.choices):
        missed = missed or list(said)
    if missed:
        first, reason = missed[0], said[missed[0]].reason
        more = ", ".join(c.node for c in missed[1:])
        raise UsageError(
            f"the kernel {backend} is required, but it declines node {first.node} ({first.op}, module"
            f" {first.module}) on {plan.device} in {plan.dtype}: {reason}"
            + (f"; it declines {more} as well" if more else "")
        )
