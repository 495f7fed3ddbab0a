"""``irprune optimize``: every exact pass; the same function, faster."""

from __future__ import annotations

import click

from irprune.cli.common import Session, common_options
from irprune.cli.job import Job, JobOptions, job_options
from irprune.errors import UsageError


@click.command("optimize")
@click.argument("model")
@click.option(
    "--elements",
    metavar="SYMBOLS",
    help="Keep only these elements, such as H,C,O; any other is then an error.",
)
@click.option(
    "--tabulate",
    metavar="TOL",
    type=click.FloatRange(0, min_open=True),
    help="Radial networks as splines, to this relative tolerance: faster, and no longer exact.",
)
@click.option(
    "--compile",
    "compile_",
    is_flag=True,
    help="Compile the result with torch.compile: minutes here, seconds where it is loaded.",
)
@click.option(
    "--require-kernel",
    metavar="BACKEND[@DEVICE]",
    help="Fail unless this backend serves every node that it is meant for, and bind them to it there.",
)
@click.option("--no-verify", is_flag=True, help="Skip the comparison with the original.")
@job_options
@common_options
def command(
    session: Session,
    model: str,
    elements: str | None,
    tabulate: float | None,
    compile_: bool,
    require_kernel: str | None,
    no_verify: bool,
    options: JobOptions,
) -> int:
    """Make MODEL faster without changing what it computes, and write a graph file to OUT."""
    from irprune.api import optimize_pipeline

    if options.output is None:
        raise UsageError("optimize needs -o OUT: the file to write the faster model to")
    if options.target not in ("auto", "graph"):
        raise UsageError(
            "optimize writes graph files, because no family has the ops that make it fast; got"
            f" --target {options.target}"
        )
    symbols = tuple(s for s in (elements or "").replace(",", " ").split() if s)
    if elements is not None and not symbols:
        raise UsageError(f"--elements names no element: {elements!r}; give symbols such as H,C,O")
    pipeline = optimize_pipeline(
        elements=symbols,
        tabulate=tabulate,
        compile=compile_,
        verify=not no_verify,
        require_kernel=require_kernel,
    )
    return Job(model, pipeline, options).run(session)
