"""The section of a page that says where the time of one or two models goes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from irprune.report.model import Report
from irprune.report.profile import HEADINGS, OUTSIDE, cells, groups, millis, percent, verdict
from irprune.report.svg import legend, time_bars
from irprune.report.tables import html_table

_MARKS = (("forward", "forward"), ("backward", "backward"), ("outside", OUTSIDE))
_PEAK = (
    "Each node is timed by itself. % of peak: the least time that the FLOPs and bytes of the forward"
    " pass allow at the measured peaks, over the time that it took."
)
_LONGER = (
    "The nodes of {}, each timed by itself with a backward pass of its own, take longer than the"
    " call: nothing outside them is drawn."
)


def profile_section(report: Report) -> str:
    """Bars of all ops, then for each model its ops and its slowest nodes; empty without a profile."""
    if not report.profile:
        return ""
    names, several = report.models, len(report.models) > 1
    said = verdict(names, report.ratios) if report.ratios else ""
    order = f" Bars of a group, from the top: {', '.join(names)}." if several else ""
    out = [
        "<h2>Where the time goes</h2>",
        f"<p>{escape(said[:1].upper() + said[1:])}.</p>" if said else "",
        f"<p>One call. Beside a bar stands its share of the call.{escape(order)}</p>",
        legend(_MARKS),
        time_bars(groups(report.profile), names, [p["seconds_call"] for p in report.profile]),
        *(
            f"<p>{escape(_LONGER.format(name))}</p>"
            for name, profile in zip(names, report.profile, strict=True)
            if profile["seconds_outside"] < 0
        ),
        f'<p class="dim">{_PEAK}</p>',
    ]
    for name, profile in zip(names, report.profile, strict=True):
        of = f" of {escape(name)}" if several else ""
        total = sum(row["nodes"] for row in profile["by_op"])
        out += [
            f"<h2>Ops{of}</h2>{_ops(profile)}",
            f"<h2>Nodes{of}</h2><p>The slowest {len(profile['nodes'])} of {total}.</p>",
            html_table(["node", *HEADINGS], _rows(profile, "nodes", "node"), _NUMERIC),
        ]
    return "".join(out)


_NUMERIC = range(1, 1 + len(HEADINGS))


def _rows(profile: Mapping[str, Any], key: str, title: str) -> list[list[str]]:
    call = profile["seconds_call"]
    return [[escape(str(row[title])), *cells(row, call)] for row in profile[key]]


def _ops(profile: Mapping[str, Any]) -> str:
    """Ops, then what is outside them: forward and backward cannot be told apart there."""
    outside = profile["seconds_outside"]
    share = percent(outside / profile["seconds_call"])
    last = [f"{OUTSIDE}, {millis(outside)} ms", "", "", share, "", "", ""]
    return html_table(["op", *HEADINGS], [*_rows(profile, "by_op", "op"), last], _NUMERIC)
