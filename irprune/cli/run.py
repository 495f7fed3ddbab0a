"""``irprune run``: any pipeline, as text or as a YAML recipe."""

from __future__ import annotations

import click

from irprune.cli.common import Session, common_options
from irprune.cli.job import Job, job_options


@click.command("run")
@click.argument("model")
@click.option(
    "-p",
    "--pipeline",
    "pipeline_text",
    required=True,
    metavar="PIPELINE",
    help="Such as score{by=magnitude},select{keep=0.5},slice,rewrite-tp; or a .yaml recipe.",
)
@job_options
@common_options
def command(
    session: Session,
    model: str,
    pipeline_text: str,
    output: str | None,
    data: str | None,
    target: str,
    print_after: bool,
    verify_each: bool,
) -> int:
    """Run a pipeline of passes on MODEL; with -o, export the result."""
    from irprune.passmanager import Pipeline

    job = Job(model, Pipeline.of(pipeline_text), output, data, target, print_after, verify_each)
    return job.run(session)
