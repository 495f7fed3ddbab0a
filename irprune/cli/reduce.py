"""``irprune reduce``: a minimal graph on which a pipeline fails, as a graph file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from irprune.cli.bisect import search
from irprune.cli.common import Session, common_options
from irprune.cli.job import data_option, pipeline_option, target_option
from irprune.errors import CheckFailed, UsageError


@click.command("reduce")
@click.argument("model")
@pipeline_option
@click.option("-o", "--output", metavar="OUT", required=True, help="The graph file to write.")
@data_option
@target_option
@common_options
def command(
    session: Session,
    model: str,
    pipeline_text: str,
    output: str,
    data: str | None,
    target: str,
) -> int:
    """Write the smallest part found of MODEL on which PIPELINE fails as it does on the whole."""
    from irprune.debugging.reduce import reduce
    from irprune.files import check_writable
    from irprune.graphfile import load

    path = check_writable(Path(output))
    with search(session, "reduce", model, pipeline_text, data, target) as (pipeline, graph, trial):
        found = reduce(pipeline, graph, trial)
        if found is None:
            raise UsageError(
                f"no check fails after any pass of {pipeline.text()} on {model}: there is nothing to"
                " reduce"
            )
        found.graph.save(str(path))
        again = trial.prefix(found.pipeline.passes, load(path), found.failure)
    if not found.failure.same(again):
        raise CheckFailed(
            f"{path} was written, but the pipeline does not fail in the same way on what is read from"
            f" it: {again or 'nothing fails'}"
        )
    verify = f"irprune verify {shlex.quote(output)} -p {shlex.quote(found.pipeline.text())}"
    payload = {
        "model": model,
        "output": str(path),
        "pipeline": found.pipeline.text(),
        "failure": str(found.failure),
        "nodes": len(found.graph.sites),
        "nodes_before": found.nodes_before,
        "text": str(found.graph),
        "runs": found.runs,
        "verify": verify,
    }
    session.emit(payload)
    if not session.as_json:
        say = session.console.print
        say(f"{found.nodes_before} nodes → {payload['nodes']}, {found.runs} passes run")
        say(f"pipeline: {payload['pipeline']}")
        say(f"failure: {found.failure}\n\n{found.graph}\n\nwritten: {path}; it fails in")
        say(f"    {verify}")
    return 0
