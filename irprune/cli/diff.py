"""``irprune diff``: what went, came and changed between two models."""

from __future__ import annotations

import click

from irprune.cli.common import Session, common_options
from irprune.cli.results import size_rows, sizes


@click.command("diff")
@click.argument("model")
@click.argument("other")
@common_options
def command(session: Session, model: str, other: str) -> int:
    """Compare the graphs of MODEL and OTHER: nodes, blocks per layer and l, sizes."""
    from irprune.difference import diff

    session.only_cpu("diff compares")
    a, b = session.load(model), session.load(other)
    compared = diff(a, b)
    payload = {
        "model": model,
        "other": other,
        **sizes(compared.before, compared.after),
        "irreps": b.irreps_per_layer(),
        "irreps_before": a.irreps_per_layer(),
        **compared.to_json(),
    }
    session.emit(payload)
    if not session.as_json:
        from irprune.report.diff import diff_group
        from irprune.report.model import Report
        from irprune.report.terminal import comparison_table

        shown = Report(
            f"{model} → {other}", ("before", "after"), size_rows(compared.before, compared.after)
        )
        session.console.print(diff_group(compared, comparison_table(shown)))
    return 0
