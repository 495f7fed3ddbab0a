"""``irprune.diff``: what went, came and changed between two graphs, node by node, block by block."""

from __future__ import annotations

from irprune.difference.find import diff
from irprune.difference.result import BlockChange, GraphDiff, Node, NodeChange

__all__ = ["BlockChange", "GraphDiff", "Node", "NodeChange", "diff"]
