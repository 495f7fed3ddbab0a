"""A graph in Graphviz's language."""

from __future__ import annotations

import json
from typing import Any


def render(graph: Any) -> str:
    """One box per node with its type; edges follow the values."""
    lines = [
        "digraph irprune {",
        '  node [shape=box, style="rounded,filled", fillcolor="#f4f4f0", fontname="Helvetica"];',
    ]
    for name, site in graph.sites.items():
        label = f"{name}\n{site.out}" if site.out is not None else name
        lines.append(f"  {json.dumps(name)} [label={json.dumps(label, ensure_ascii=False)}];")
        for source in site.node.all_input_nodes:
            lines.append(f"  {json.dumps(source.name)} -> {json.dumps(name)};")
    return "\n".join([*lines, "}", ""])
