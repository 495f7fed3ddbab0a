"""``irprune demo``: the whole way on a real model, without any data set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from irprune.cli.common import Session, common_options, exit_code
from irprune.cli.demo_report import build_report, payload_of
from irprune.cli.demo_steps import Outcome, Plan, run_demo


@click.command("demo")
@click.option("--model", default="7net-0", show_default=True)
@click.option("--keep", type=float, default=0.5, show_default=True, help="Fraction of the blocks.")
@click.option("--steps", type=click.IntRange(0), default=150, show_default=True)
@click.option(
    "--elements",
    default="O,Na,Mg,Al,Si,Cl",
    show_default=True,
    help="Elements of the generated structures.",
)
@click.option(
    "-o", "--output", "folder", default="irprune-demo", show_default=True, metavar="FOLDER"
)
@common_options
def command(
    session: Session, model: str, keep: float, steps: int, elements: str, folder: str
) -> int:
    """Prune SevenNet-0 to half of its blocks, recover, export, verify; write a report.

    Structures are generated and labelled by the model itself. Takes less than five minutes on two
    cores.
    """
    from irprune.atomistic import numbers_of
    from irprune.errors import UsageError
    from irprune.report.html import write

    session.only_cpu("demo runs")
    if not 0 < keep <= 1:
        raise UsageError(f"keep must be a fraction in (0, 1], got {keep:g}")
    names = tuple(e.strip() for e in elements.split(",") if e.strip())
    numbers_of(names)
    out = Path(folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    plan = Plan(model, keep, steps, names, out, session.seed)
    outcome = run_demo(session, plan, _stages(session))
    report = build_report(plan, outcome)
    page = write(report, out / "report.html")
    session.emit({**payload_of(plan, outcome), "report": str(page)})
    if not session.as_json:
        from irprune.report.terminal import print_report

        print_report(report, session.console)
        session.console.print(f"\nmodel: {outcome.exported.path}\nreport: {page}")
    return exit_code(outcome.checks)


def _stages(session: Session) -> Any:
    """A context manager that says which stage runs, and how long it took."""
    start = time.monotonic()

    @contextmanager
    def stage(title: str) -> Iterator[Any]:
        began = time.monotonic()
        session.log(f"[{began - start:4.0f} s] {title}")
        with session.progress(f"  {title}") as progress:
            yield progress

    return stage


__all__ = ["Outcome", "command"]
