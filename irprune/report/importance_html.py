"""The section of a page that says what a criterion finds important."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from irprune.report.importance_svg import heat_map, violins
from irprune.report.model import Importance, Report
from irprune.report.svg import order_legend
from irprune.report.tables import html_table

_SHOWN = 20


def importance_section(report: Report) -> str:
    """Heat map, violins, and sums by layer and element; empty where nothing was scored."""
    found = report.importance
    if found is None:
        return ""
    orders = [int(ir[:-1]) for layer in found.blocks.values() for ir in layer]
    return "".join(
        (
            f"<h2>Importance by {escape(found.criterion)}</h2><p>{_about(found)}</p>",
            "<h2>Blocks of each layer</h2><p>One cell for each block (k, l), the most important of"
            f" each irrep first.</p>{heat_map(found.blocks)}",
            "<h2>Blocks of each order</h2><p>Over all layers; the line is the median.</p>",
            order_legend(orders) + violins(found.blocks),
            _sums("layer", found.layers),
            _sums("element", found.elements),
        )
    )


def _about(found: Importance) -> str:
    if not found.seen:
        return "It looks at no structures."
    about = f"On {found.seen}."
    if found.stability is not None:
        about += (
            f" Spearman's rank correlation between the two halves of them is {found.stability:.3f}."
        )
    return about


def _sums(of: str, sums: Mapping[str, float | None]) -> str:
    """The largest sums first for elements, in their order for layers."""
    if not sums:
        return ""
    items = list(sums.items())
    if of == "element":
        items.sort(key=lambda item: -(item[1] or 0.0))
    rows = [
        [escape(name), "–" if value is None else f"{value:.3e}"] for name, value in items[:_SHOWN]
    ]
    more = f'<p class="dim">The first {_SHOWN} of {len(items)}.</p>' if len(items) > _SHOWN else ""
    return f"<h2>Sum by {of}</h2>{html_table([of, 'importance'], rows, (1,))}{more}"
