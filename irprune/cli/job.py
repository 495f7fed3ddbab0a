"""Running a pipeline on a model and exporting the result: what ``prune`` and ``run`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from irprune.cli.common import Session, existing_file, exit_code
from irprune.cli.results import checks_json, compiled_json, print_run, sizes
from irprune.passmanager import Pipeline, all_passes

if TYPE_CHECKING:
    from irprune.debugging.observers import Observer

F = TypeVar("F", bound=Callable[..., Any])

TARGETS = ("auto", "native:mace", "native:sevennet", "surgery", "graph")

pipeline_option = click.option(
    "-p",
    "--pipeline",
    "pipeline_text",
    required=True,
    metavar="PIPELINE",
    help="Such as score{by=magnitude},select{keep=0.5},slice,rewrite-tp; or a .yaml recipe.",
)
data_option = click.option(
    "--data",
    metavar="FILE",
    help="Structures that ASE reads, to score and recover on. Default: generated ones.",
)
target_option = click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="auto",
    show_default=True,
    help="What the result must be expressible as; auto: the model's own family.",
)


@dataclass(frozen=True)
class JobOptions:
    """What all verbs that run a pipeline are told beside it."""

    output: str | None = None
    data: str | None = None
    target: str = "auto"
    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    print_change: bool = False
    dump: str | None = None
    verify_each: bool = False
    html: str | None = None

    def observers(self) -> list[Observer]:
        """What prints and writes while the pipeline runs."""
        from irprune.debugging.observers import Dumper, Printer

        found: list[Observer] = []
        if self.print_before or self.print_after or self.print_change:
            found.append(Printer(self.print_before, self.print_after, self.print_change))
        if self.dump is not None:
            found.append(Dumper(Path(self.dump)))
        return found


def job_options(function: F) -> F:
    """Options of the verbs that run a pipeline; the verb gets them as ``JobOptions``, ``options``."""

    @wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        given = {f.name: kwargs.pop(f.name) for f in fields(JobOptions)}
        return function(*args, options=JobOptions(**given), **kwargs)

    made: Any = gathered
    for option in (
        click.option(
            "--html", metavar="FILE", help="Write a report with both graphs as one HTML file."
        ),
        click.option("--verify-each", is_flag=True, help="Verify after every pass."),
        click.option(
            "--dump", metavar="DIR", help="Write text and graph file of every step to DIR."
        ),
        click.option(
            "--print-change", is_flag=True, help="Print what every pass changes in the text."
        ),
        click.option(
            "--print-after",
            multiple=True,
            metavar="PASS",
            help="Print the graph after PASS, or all.",
        ),
        click.option(
            "--print-before", multiple=True, metavar="PASS", help="Print it before PASS, or all."
        ),
        target_option,
        data_option,
        click.option("-o", "--output", metavar="OUT", help="The file to write the result to."),
    ):
        made = option(made)
    return made


def left(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Pass → node → why it stayed as it was."""
    named = {
        name: found
        for name, found in results.items()
        if isinstance(found, dict) and found and all(isinstance(v, str) for v in found.values())
    }
    return {name: dict(found) for name, found in named.items() if name in all_passes()}


def kernels(graph: Any) -> dict[str, list[str]]:
    """Choice of backend, with who declined → the modules that it serves."""
    import torch

    from irprune.backends import choose
    from irprune.kernelplan import dtype_of, kernel_nodes

    out: dict[str, list[str]] = {}
    for node, module in kernel_nodes(graph.gm):
        choice = choose(module.spec, torch.device("cpu"), dtype_of(graph.gm), module.backend)
        out.setdefault(str(choice), []).append(str(node.target))
    return out


@dataclass(frozen=True)
class Job:
    """One run of a pipeline, as asked for on the command line."""

    model: str
    pipeline: Pipeline
    options: JobOptions

    def run(self, session: Session) -> int:
        """Runs it, prints the result and gives the exit code."""
        from irprune import api
        from irprune.debugging.changes import ChangeLog
        from irprune.files import check_writable
        from irprune.recipe import recipe_of
        from irprune.targets import check_name, resolve

        given = self.options
        session.only_cpu("passes run")
        existing_file(given.data, "the data file")
        output = check_writable(Path(given.output)) if given.output else None
        if given.html:
            check_writable(given.html)
        changes = ChangeLog()
        observers = [*given.observers(), *([changes] if given.html else [])]
        before_graph, facts = session.load_for(self.model, self.pipeline)
        if output is not None and "lowered" not in facts:
            check_name(output, resolve(before_graph, given.target))
        frames = None
        if given.data:
            frames = session.frames(given.data, before_graph.atomistic)
        with session.progress("irprune") as progress:
            graph, report = api.run_reported(
                self.pipeline,
                before_graph,
                frames,
                seed=session.seed,
                target=given.target,
                device=session.device,
                dtype=session.dtype,
                output=output,
                progress=progress,
                observers=observers,
                verify_each=given.verify_each,
            )
            exported = report.results.get("export")
            if exported is None and output is not None:
                from irprune.export import export

                progress("export", len(self.pipeline), None)
                exported = export(graph, output, given.target)
        checks = [
            *(c for p in report.passes for c in p.checks),
            *report.results.get("verify", ()),
            *(exported.checks if exported is not None else ()),
        ]
        irreps = (before_graph.irreps_per_layer(), graph.irreps_per_layer())
        payload = {
            "model": self.model,
            "output": None if exported is None else str(exported.path),
            "tier": None if exported is None else exported.tier,
            **sizes(report.before, report.after),
            "irreps": irreps[1],
            "irreps_before": irreps[0],
            "checks": checks_json(checks),
            "pipeline": report.pipeline,
            "passes": [p.to_json() for p in report.passes],
            "score": report.results.get("score"),
            "left": left(report.results),
            "stages": report.stages(),
            "latency": report.results.get("latency", []),
            "bounds": report.results.get("bounds", {}),
            "layout": report.results.get("lay-out"),
            "kernels": kernels(graph),
            "kernel_plan": None if graph.kernels is None else graph.kernels.to_json(),
            "compiled": compiled_json(graph, report.results.get("compile")),
            "recipe": recipe_of(
                self.model,
                before_graph,
                report.pipeline,
                seed=session.seed,
                target=given.target,
                dtype=session.dtype,
                data=given.data,
                output=None if exported is None else exported.path,
            ).to_json(),
        }
        if given.html:
            from irprune.cli.job_report import build_report
            from irprune.report.html import write

            page = build_report(payload, report, (before_graph, graph), changes.found)
            write(page, given.html)
        session.emit(payload)
        if not session.as_json:
            print_run(session, payload, report, irreps, report.before, report.after)
        return exit_code(checks)
