"""What a choice leaves, in words: irreps per layer, or groups per axis."""

from __future__ import annotations

from irprune.graph import EquivariantGraph
from irprune.irreps import BoolMask, IrrepsType


def irreps_kept(graph: EquivariantGraph, keep: BoolMask) -> dict[str, str]:
    """Layer → its irreps under a legal class mask."""
    elements = graph.blocks.elements(keep)
    out = {}
    for label, node in graph.labels.items():
        t = graph.type_of(node) if node in graph.sites else None
        span = graph.blocks.spans.get((node, None))
        if isinstance(t, IrrepsType) and span is not None:
            out[label] = t.kept(elements[span.ids]).irreps
    return out


def describe(graph: EquivariantGraph, keep: BoolMask) -> str:
    """Irreps per layer, equal neighbours joined; groups per axis where layers have no names."""
    found = irreps_kept(graph, keep)
    if not found:
        counts = {a.name: int(keep[list(a.groups)].sum()) for a in graph.axes()}
        return ", ".join(f"{n} of {name}" for name, n in counts.items())
    runs: list[tuple[list[str], str]] = []
    for label, irreps in found.items():
        if runs and runs[-1][1] == irreps:
            runs[-1][0].append(label)
        else:
            runs.append(([label], irreps))
    return ", ".join(
        f"{irreps} in {labels[0]}" + (f" to {labels[-1]}" if len(labels) > 1 else "")
        for labels, irreps in runs
    )
