"""``irprune passes``: every registered pass, its trait and its options."""

from __future__ import annotations

import sys
from typing import Any

import click

from irprune.cli.common import Session, common_options


@click.command("passes")
@common_options
def command(session: Session) -> None:
    """List all passes with their options and what they claim about exactness."""
    from irprune.options import describe, format_value, help_of, options_of
    from irprune.passbase import all_passes

    rows: list[dict[str, Any]] = []
    for name, cls in all_passes().items():
        if isinstance(cls, Exception):
            rows.append({"name": name, "error": str(cls)})
            continue
        help_texts = help_of(cls)
        options = [
            {
                "name": o.name,
                "type": describe(o.kind),
                "default": None if o.required else format_value(o.default, o.kind),
                "required": o.required,
                "help": o.help or help_texts.get(o.field, ""),
            }
            for o in options_of(cls)
        ]
        rows.append(
            {
                "name": name,
                "summary": cls.summary,
                "trait": cls.trait,
                "requires": list(cls.requires),
                "refuses": list(cls.refuses),
                "provides": list(cls.provides),
                "invalidates": list(cls.invalidates),
                "options": options,
            }
        )
    if session.as_json:
        session.emit({"passes": rows})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("pass", "trait", "what it does", "options", "requires", "provides"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if "error" in row:
            sys.stderr.write(f"warning: {row['error']}\n")
            continue
        options_text = "\n".join(
            f"{o['name']}: {o['type']}" + ("" if o["required"] else f" = {o['default']}")
            for o in row["options"]
        )
        table.add_row(
            row["name"],
            row["trait"],
            row["summary"],
            options_text,
            " ".join(row["requires"]),
            " ".join(row["provides"]),
        )
    session.console.print(table)
