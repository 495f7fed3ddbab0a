"""``irprune show``: what a model consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from irprune.api import CRITERIA
from irprune.cli.common import Session, common_options, existing_file
from irprune.cli.results import compiled_json, print_compiled, sizes
from irprune.cli.show_kernels import kernels_json, print_kernels
from irprune.cli.show_scores import importance_of, print_scores, score
from irprune.errors import UsageError
from irprune.report.model import Importance, Report, Row, number


@click.command("show")
@click.argument("model")
@click.option("--groups", is_flag=True, help="List the coupled groups.")
@click.option("--ir", is_flag=True, help="Print the graph with its types.")
@click.option("--text", is_flag=True, help="Print the textual IR and nothing else.")
@click.option("--costs", is_flag=True, help="With --text: blocks, parameters and FLOPs per call.")
@click.option("--tensors", is_flag=True, help="With --text: path, dtype and shape of all tensors.")
@click.option(
    "--scores",
    is_flag=False,
    flag_value=CRITERIA[0],
    type=click.Choice(CRITERIA),
    help=f"How much each block matters, by a criterion; {CRITERIA[0]} where none is named.",
)
@click.option(
    "--data",
    metavar="FILE",
    help="Structures that ASE reads, to score on. Default: generated ones.",
)
@click.option("--html", metavar="FILE", help="Write a report as one HTML file.")
@click.option("--dot", metavar="FILE", help="Write the graph for Graphviz.")
@common_options
def command(
    session: Session,
    model: str,
    groups: bool,
    ir: bool,
    text: bool,
    costs: bool,
    tensors: bool,
    scores: str | None,
    data: str | None,
    html: str | None,
    dot: str | None,
) -> int:
    """Show MODEL: sizes, irreps per layer, what can be pruned, and what is frozen."""
    from irprune.files import atomic_path, check_writable

    for path in filter(None, (html, dot)):
        check_writable(path)
    if data and not scores:
        raise UsageError("show reads --data only to score on: give --scores as well")
    if (costs or tensors) and not text:
        raise UsageError(
            f"show --{'costs' if costs else 'tensors'} is a part of the text: give --text as well"
        )
    existing_file(data, "the data file")
    graph = session.load(model)
    found = score(session, graph, scores, data) if scores else None
    stats = graph.stats()
    payload = {
        "model": model,
        "family": None if graph.source is None else graph.source.family,
        "tier": None,
        **sizes(stats),
        "nodes": stats.nodes,
        "irreps": graph.irreps_per_layer(),
        "axes": _axes(graph),
        "elements": None if graph.atomistic is None else list(graph.atomistic.symbols),
        "cutoff": None if graph.atomistic is None else graph.atomistic.cutoff,
        "barriers": _barriers(graph),
        "compiled": compiled_json(graph, None),
        "kernel_plan": kernels_json(graph),
        "history": list(graph.history),
        "checks": [],
        "scores": found,
        "groups": graph.groups() if groups else None,
        "text": graph.text(costs=costs, groups=groups, tensors=tensors) if text else None,
    }
    if html:
        from irprune.report.html import write

        write(_report(model, graph, stats, importance_of(found)), html)
    if dot:
        from irprune.report.dot import render

        with atomic_path(dot) as temporary:
            Path(temporary).write_text(render(graph), encoding="utf-8")
    session.emit(payload)
    if text and not session.as_json:
        session.stdout.write(f"{payload['text']}\n")
    elif not session.as_json:
        _print(session, payload, graph, ir)
    return 0


def _axes(graph: Any) -> list[dict[str, Any]]:
    return [
        {"name": a.name, "kind": a.kind, "irrep": a.ir, "blocks": len(a.groups)}
        for a in graph.axes()
    ]


def _barriers(graph: Any) -> list[str]:
    """Calls that no op knows, with their line and the reason: what they touch is frozen."""
    from irprune.text import print_barrier

    return [
        print_barrier(graph.sites[name]).split("\n")[0].removeprefix("barrier ")
        for name in graph.blocks.barriers
    ]


def _report(model: str, graph: Any, stats: Any, importance: Importance | None) -> Report:
    from irprune.versions import versions

    rows = (
        Row("parameters", "", (stats.params,)),
        Row("FLOPs per atom", "", (stats.flops_per_atom,)),
        Row("blocks", "", (stats.blocks,)),
        Row("graph nodes", "", (stats.nodes,)),
    )
    return Report(
        title=model,
        models=("model",),
        rows=rows,
        irreps=(graph.irreps_per_layer(),),
        irreps_names=("model",),
        importance=importance,
        versions=versions(),
    )


def _print(session: Session, payload: dict[str, Any], graph: Any, ir: bool) -> None:
    from rich.table import Table

    from irprune.report.terminal import irreps_table

    console = session.console
    elements = "" if graph.atomistic is None else f", {graph.atomistic.elements_text()}"
    console.print(
        f"{payload['model']}: {payload['family'] or 'custom'}{elements}\n"
        f"{number(payload['params'])} parameters,"
        f" {number(payload['flops_per_atom'])} FLOPs per atom,"
        f" {payload['blocks']} blocks, {payload['nodes']} nodes\n",
        markup=False,
    )
    console.print(irreps_table(payload["irreps"]))
    table = Table(box=None, pad_edge=False)
    for heading in ("axis", "kind", "irrep"):
        table.add_column(heading, overflow="fold")
    table.add_column("blocks", justify="right")
    for axis in payload["axes"]:
        table.add_row(axis["name"], axis["kind"], axis["irrep"], str(axis["blocks"]))
    console.print("\nwhat can be pruned")
    console.print(table)
    if payload["scores"] is not None:
        print_scores(session, payload["scores"])
    print_compiled(session, payload["compiled"])
    print_kernels(session.console, payload["kernel_plan"])
    for barrier in payload["barriers"]:
        console.print(f"barrier: {barrier}; what it touches is frozen")
    if payload["groups"] is not None:
        console.print(f"\n{payload['groups']}")
    if ir:
        console.print(f"\n{graph}")
