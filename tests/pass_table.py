"""The page docs/pass-table.md, made from the registered passes and their docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from irprune.options import Option, describe, format_value, help_of, options_of
from irprune.passbase import Pass

HEAD = """\
# Table of passes

What `irprune passes --json` says, as a page: names, claims, facts and options, with the docstring of
each pass. It is written from the code; the suite compares them. [Passes](passes.md) explains what they
do.
"""


def pass_table(passes: Mapping[str, type[Pass]]) -> str:
    """The whole page, passes by name."""
    overview = _table(
        ("pass", "claim", "what it does"),
        [(f"[{n}](#{n})", f"`{cls.trait}`", cls.summary) for n, cls in sorted(passes.items())],
    )
    return "\n".join((HEAD, overview, *(_section(passes[name]) for name in sorted(passes))))


def _section(cls: type[Pass]) -> str:
    facts = [
        (word, ", ".join(f"`{fact}`" for fact in getattr(cls, word)))
        for word in ("requires", "refuses", "provides", "invalidates")
        if getattr(cls, word)
    ]
    lines = [
        f"\n## {cls.name}\n",
        inspect.cleandoc(cls.__doc__ or ""),
        "",
        f"Claim: `{cls.trait}`.",
    ]
    lines += [f"{word.capitalize()} {names}." for word, names in facts]
    options = options_of(cls)
    if options:
        lines += ["", _table(("option", "type", "default", "meaning"), _rows(cls, options))]
    return "\n".join(lines)


def _rows(cls: type[Pass], options: Sequence[Option]) -> list[tuple[str, ...]]:
    said = help_of(cls)
    return [
        (
            f"`{o.name}`",
            describe(o.kind),
            "required" if o.required else f"`{format_value(o.default, o.kind)}`",
            o.help or said.get(o.field, ""),
        )
        for o in options
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
