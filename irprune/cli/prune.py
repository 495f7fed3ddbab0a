"""``irprune prune``: score, select, slice, recover and export in one command."""

from __future__ import annotations

from typing import Any

import click

from irprune.api import CRITERIA
from irprune.cli.common import Session, common_options
from irprune.cli.job import Job, JobOptions, job_options
from irprune.errors import UsageError


@click.command("prune")
@click.argument("model")
@click.option("--keep", type=float, metavar="F", help="Fraction of the blocks to keep, in (0, 1].")
@click.option("--to", metavar="IRREPS", help="Irreps to prune to, such as 64x0e+32x1o.")
@click.option(
    "--budget", metavar="WHAT=P%", help="params=P%, flops=P% or latency=P% of the original."
)
@click.option(
    "--criterion",
    type=click.Choice(CRITERIA),
    help="How blocks are scored. Default: energy-force; with --to: magnitude.",
)
@click.option(
    "--recover",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Steps of distillation from the original after slicing.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Reach the goal in N rounds of score, select, slice and recover.",
)
@click.option(
    "--scope",
    type=click.Choice(("global", "layer", "l", "axis")),
    default="global",
    help="Rank all blocks together, or keep the same share of every layer, order or axis.",
)
@click.option(
    "--axes", metavar="KINDS", help="Kinds of axes to choose from, such as channel+radial."
)
@click.option("--minimum", metavar="N", help="Groups that every axis keeps, or by l: 0:16+1:8.")
@click.option(
    "--align", type=click.IntRange(1), metavar="N", help="Kept groups are multiples of N."
)
@click.option(
    "--protect", multiple=True, metavar="PATTERN", help="Axes or layers of which nothing goes."
)
@click.option("--no-verify", is_flag=True, help="Skip the verification of what was sliced.")
@job_options
@common_options
def command(
    session: Session,
    model: str,
    keep: float | None,
    to: str | None,
    budget: str | None,
    criterion: str | None,
    recover: int,
    steps: int,
    scope: str,
    axes: str | None,
    minimum: str | None,
    align: int | None,
    protect: tuple[str, ...],
    no_verify: bool,
    options: JobOptions,
) -> int:
    """Prune MODEL and write the smaller model to OUT, in the format that MODEL has."""
    from irprune.api import prune_pipeline

    if options.output is None:
        raise UsageError("prune needs -o OUT: the file to write the smaller model to")
    select: dict[str, Any] = {
        "scope": scope if scope != "global" else None,
        "axes": axes and tuple(axes.split("+")),
        "minimum": int(minimum) if minimum and minimum.isdigit() else minimum,
        "align": align,
        "protect": protect or None,
    }
    pipeline = prune_pipeline(
        keep=keep,
        to=to,
        budget=budget,
        criterion=criterion,
        recover=recover,
        verify=not no_verify,
        steps=steps,
        **{name: value for name, value in select.items() if value is not None},
    )
    return Job(model, pipeline, options).run(session)
