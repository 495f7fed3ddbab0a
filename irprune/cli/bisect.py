"""``irprune bisect``: the shortest prefix of a pipeline that fails, and the smallest failing part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options, existing_file
from irprune.cli.job import data_option, pipeline_option, target_option
from irprune.errors import EXIT_CHECK

if TYPE_CHECKING:
    from irprune.debugging.failure import Trial
    from irprune.passmanager import Pipeline, Progress


@click.command("bisect")
@click.argument("model")
@pipeline_option
@data_option
@target_option
@common_options
def command(session: Session, model: str, pipeline_text: str, data: str | None, target: str) -> int:
    """Find the pass of PIPELINE after which a check of MODEL fails, and what it gets wrong."""
    from irprune.debugging.bisect import bisect

    with search(session, "bisect", model, pipeline_text, data, target) as (pipeline, graph, trial):
        bisection = bisect(pipeline, graph, trial)
    payload = {
        "model": model,
        "ok": bisection.failure is None and bisection.before is None,
        **bisection.to_json(),
    }
    session.emit(payload)
    if not session.as_json:
        say = session.console.print
        if bisection.before is not None and not bisection.before.kind:
            say(f"before any pass: {bisection.before}; these checks blame no pass")
        if bisection.failure is None:
            say(
                f"no check fails after any pass of {bisection.pipeline} ({bisection.runs} passes run)"
            )
            return 0 if payload["ok"] else EXIT_CHECK
        say(
            f"shortest prefix that fails: {bisection.prefix or 'none: the model cannot be checked'}"
        )
        say(f"failure: {bisection.failure}")
        if bisection.part is not None:
            say(f"smallest part of {bisection.failing}: {bisection.part}")
        say(f"{bisection.runs} passes run")
    return 0 if payload["ok"] else EXIT_CHECK


@contextlib.contextmanager
def search(
    session: Session, title: str, model: str, pipeline_text: str, data: str | None, target: str
) -> Iterator[tuple[Pipeline, Any, Trial]]:
    """What a search for a failure works on: pipeline, graph, and how candidates are run."""
    from irprune.passmanager import Pipeline

    session.only_cpu("passes run")
    pipeline = Pipeline.of(pipeline_text)
    existing_file(data, "the data file")
    graph, _ = session.load_for(model, pipeline)
    with session.progress(title) as progress:
        yield pipeline, graph, _trial(session, graph, data, target, progress)


def _trial(
    session: Session, graph: Any, data: str | None, target: str, progress: Progress
) -> Trial:
    from irprune.debugging.failure import Trial

    frames = session.frames(data, graph.atomistic) if data else None
    count = iter(range(1, 10**9))
    return Trial(
        frames=frames, seed=session.seed, target=target, dtype=session.dtype, teacher=graph,
        tick=lambda label: progress(label, next(count), None),
    )  # fmt: skip
