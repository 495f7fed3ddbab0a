"""``irprune ops``: every operation that the compiler understands, and its claim."""

from __future__ import annotations

from typing import Any

import click

from irprune.cli.common import Session, common_options


@click.command("ops")
@common_options
def command(session: Session) -> None:
    """List the operations that have an OpDef: what they stand for and whether slicing is exact."""
    from irprune.families import FAMILIES, register_ops
    from irprune.ops.base import registered_ops
    from irprune.ops.installed import load_ops

    load_ops()
    for family in FAMILIES:
        register_ops(family)
    rows: list[dict[str, Any]] = [
        {
            "name": op.name,
            "trait": op.trait.value + (f"({op.reason})" if op.reason else ""),
            "targets": [_name(target) for target in op.targets],
            "summary": (type(op).__doc__ or "").strip().split("\n")[0],
        }
        for op in registered_ops()
    ]
    session.emit({"ops": rows})
    if session.as_json:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("op", "trait", "what it is", "stands for"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["trait"], row["summary"], "\n".join(row["targets"]))
    session.console.print(table)


def _name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))
