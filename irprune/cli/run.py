"""``irprune run``: any pipeline, as text or as a YAML recipe."""

from __future__ import annotations

import click

from irprune.cli.common import Session, common_options
from irprune.cli.job import Job, JobOptions, job_options, pipeline_option


@click.command("run")
@click.argument("model")
@pipeline_option
@job_options
@common_options
def command(session: Session, model: str, pipeline_text: str, options: JobOptions) -> int:
    """Run a pipeline of passes on MODEL; with -o, export the result."""
    from irprune.passmanager import Pipeline

    return Job(model, Pipeline.of(pipeline_text), options).run(session)
