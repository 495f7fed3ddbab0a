"""One self-contained HTML file: no script, no font, no picture from outside.

Pages with pictures of graphs have a script of their own (``irprune.picture.script``).
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from irprune.files import atomic_path
from irprune.irreps import IrrepsType
from irprune.picture.page import picture_section, treemap_section
from irprune.picture.script import SCRIPT
from irprune.picture.style import STYLE
from irprune.report.importance_html import importance_section
from irprune.report.model import Report, number, ratio
from irprune.report.palette import themed
from irprune.report.passes_html import passes_section
from irprune.report.profile_html import profile_section
from irprune.report.svg import curve, irreps_bars, order_legend, score_strips
from irprune.report.tables import html_table

_STYLE = (
    themed(":root")
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p { margin: .4rem 0 .8rem; } .dim { color: var(--dim); fill: var(--dim); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: baseline; }
th { font-weight: 600; color: var(--dim); font-size: .88rem; }
td.n, th.n { text-align: right; padding-right: 0; padding-left: 1rem; white-space: nowrap; }
td small { color: var(--dim); margin-left: .4em; }
code, pre { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  padding: .8rem 1rem; overflow-x: auto; }
.passes table { font-size: .84rem; } .passes code { overflow-wrap: anywhere; }
.passes td.n { white-space: normal; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
details > summary { cursor: pointer; }
.ok { color: var(--ok); font-weight: 600; } .bad { color: var(--bad); font-weight: 700; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.dim { fill: var(--dim); } svg text.strong { font-weight: 600; }
svg text.inside { fill: #fff; font-weight: 600; font-size: 11px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
.l0 { fill: var(--c0); } .l1 { fill: var(--c1); } .l2 { fill: var(--c2); }
.l3 { fill: var(--c3); } .l4 { fill: var(--c4); } .l5 { fill: var(--c5); }
.forward { fill: var(--c0); } .backward { fill: var(--c1); } .outside { fill: var(--c5); }
.heat { fill: var(--line); } .median { stroke: var(--ink); stroke-width: 1.5; }
.kept { opacity: .85; } .removed { opacity: .22; }
.legend { display: flex; gap: 1.2em; }
.key { display: inline-flex; align-items: center; gap: .4em; }
.swatch { width: 12px; height: 12px; }
"""
)


def render(report: Report) -> str:
    """The page."""
    sections = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="dim">{escape(report.summary)}</p>' if report.summary else "",
        _comparison(report),
        profile_section(report),
        picture_section(report.pictures),
        treemap_section(report.pictures),
        _structure(report),
        _scores(report),
        importance_section(report),
        _recovery(report),
        _checks(report),
        passes_section(report),
        _origin(report),
    ]
    style = STYLE if report.pictures else ""
    script = f"<script>{SCRIPT}</script>" if report.pictures else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body><main>{''.join(sections)}</main>{script}</body></html>\n"
    )


def write(report: Report, path: str | Path) -> Path:
    """Writes the page whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    return Path(path)


def _comparison(report: Report) -> str:
    rows = []
    for row in report.rows:
        unit = f" <small>{escape(row.unit)}</small>" if row.unit else ""
        cells = [escape(row.quantity) + unit]
        for i, value in enumerate(row.values):
            beside = ratio(value, row.values[0]) if row.compare and i else ""
            cells.append(number(value) + (f"<small>{beside}</small>" if beside else ""))
        rows.append(cells)
    head = ["", *map(escape, report.models)]
    return html_table(head, rows, range(1, len(head))) if rows else ""


def _structure(report: Report) -> str:
    if not report.irreps:
        return ""
    orders = [
        s.l for model in report.irreps for text in model.values() for s in IrrepsType.parse(text)
    ]
    return (
        "<h2>Irreps per layer</h2><p>The width of a segment is its number of components.</p>"
        + order_legend(orders)
        + irreps_bars(report.irreps, report.irreps_names)
    )


def _scores(report: Report) -> str:
    picture = score_strips(report.scores, report.kept)
    if not picture:
        return ""
    faint = " Faint blocks were removed." if report.kept else ""
    return f"<h2>Importance of each block</h2><p>One dot per block (k, l).{faint}</p>{picture}"


def _recovery(report: Report) -> str:
    picture = curve(report.curve, "distillation loss")
    return f"<h2>Recovery</h2>{picture}" if picture else ""


def _checks(report: Report) -> str:
    if not report.checks:
        return ""
    failed = sum(not c["ok"] for c in report.checks)
    verdict = (
        f'<p class="bad">{failed} of {len(report.checks)} checks failed.</p>'
        if failed
        else f'<p class="ok">All {len(report.checks)} checks passed.</p>'
    )
    rows = [
        [
            escape(str(c["name"])),
            _measured(c["value"]),
            _measured(c["tolerance"]),
            '<span class="ok">ok</span>' if c["ok"] else '<span class="bad">FAILED</span>',
        ]
        for c in report.checks
    ]
    table = html_table(["check", "measured", "tolerance", ""], rows, (1, 2))
    return f"<h2>Checks</h2>{verdict}{table}"


def _measured(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, float | int) else escape(str(value))


def _origin(report: Report) -> str:
    items = []
    if report.tier:
        items.append(f"Export tier: {escape(report.tier)}.")
    items.extend(escape(note) for note in report.notes)
    if report.versions:
        items.append(escape(", ".join(f"{k} {v}" for k, v in report.versions.items())) + ".")
    command = f"<pre>{escape(report.command)}</pre>" if report.command else ""
    if not items and not command:
        return ""
    return f"<h2>How this was made</h2>{command}" + "".join(f"<p>{i}</p>" for i in items)
