"""``irprune prune``: score, select, slice, recover and export in one command."""

from __future__ import annotations

import click

from irprune.cli.common import Session, common_options
from irprune.cli.job import Job, job_options
from irprune.errors import UsageError


@click.command("prune")
@click.argument("model")
@click.option("--keep", type=float, metavar="F", help="Fraction of the blocks to keep, in (0, 1].")
@click.option("--to", metavar="IRREPS", help="Irreps to prune to, such as 64x0e+32x1o.")
@click.option("--budget", metavar="WHAT=P%", help="params=P% or flops=P% of the original.")
@click.option(
    "--criterion",
    type=click.Choice(("energy-force", "magnitude", "activation", "random")),
    help="How blocks are scored. Default: energy-force; with --to: magnitude.",
)
@click.option(
    "--recover",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Steps of distillation from the original after slicing.",
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
    no_verify: bool,
    output: str | None,
    data: str | None,
    target: str,
    print_after: bool,
    verify_each: bool,
) -> int:
    """Prune MODEL and write the smaller model to OUT, in the format that MODEL has."""
    from irprune.api import prune_pipeline

    if output is None:
        raise UsageError("prune needs -o OUT: the file to write the smaller model to")
    pipeline = prune_pipeline(
        keep=keep, to=to, budget=budget, criterion=criterion, recover=recover, verify=not no_verify
    )
    job = Job(model, pipeline, output, data, target, print_after, verify_each)
    return job.run(session)
