"""``irprune show``: what a model consists of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irprune.api import CRITERIA
from irprune.cli.common import Session, common_options, existing_file
from irprune.cli.results import compiled_json, print_compiled, sizes
from irprune.cli.show_kernels import kernels_json, print_kernels
from irprune.cli.show_scores import importance_of, print_scores, score
from irprune.errors import UsageError
from irprune.report.model import Importance, Report, Row, number

if TYPE_CHECKING:
    from irprune.picture.model import Picture


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
@click.option("--svg", metavar="FILE", help="Write the graph, laid out by layer, as SVG.")
@click.option("--dot", metavar="FILE", help="Write the graph for Graphviz.")
@click.option("--tree", is_flag=True, help="Print the graph as a tree of layers and nodes.")
@click.option(
    "--against",
    metavar="OTHER",
    help="With --html or --svg: another model beside it, as what became of MODEL.",
)
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
    svg: str | None,
    dot: str | None,
    tree: bool,
    against: str | None,
) -> int:
    """Show MODEL: sizes, irreps per layer, what can be pruned, and what is frozen."""
    from irprune.files import atomic_path, check_writable

    for path in filter(None, (html, svg, dot)):
        check_writable(path)
    if data and not scores:
        raise UsageError("show reads --data only to score on: give --scores as well")
    if (costs or tensors) and not text:
        raise UsageError(
            f"show --{'costs' if costs else 'tensors'} is a part of the text: give --text as well"
        )
    if against and not (html or svg):
        raise UsageError(
            "show draws --against OTHER beside MODEL: give --html or --svg as well, or compare the two"
            " with irprune diff"
        )
    if not scores:
        session.only_cpu("show without --scores reads")
    existing_file(data, "the data file")
    graph = session.load(model)
    other = session.load(against) if against else None
    scored, found = score(session, graph, scores, data) if scores else (graph, None)
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
    if html or svg:
        shown = [(model, scored)]
        if against is not None:
            shown.append((against, other))
        drawn = _pictures(shown)
        if html:
            from irprune.report.html import write

            write(_report(shown, drawn, importance_of(found)), html)
        if svg:
            from irprune.picture.svg import picture_svg

            with atomic_path(svg) as temporary:
                Path(temporary).write_text(picture_svg(drawn), encoding="utf-8")
    if dot:
        from irprune.report.dot import render

        with atomic_path(dot) as temporary:
            Path(temporary).write_text(render(graph), encoding="utf-8")
    session.emit(payload)
    if text and not session.as_json:
        session.stdout.write(f"{payload['text']}\n")
    elif not session.as_json:
        _print(session, payload, graph, ir)
        if tree:
            from irprune.picture.build import picture_of
            from irprune.picture.tree import tree_of

            session.console.print(tree_of(picture_of(scored, model)))
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


def _pictures(shown: Sequence[tuple[str, Any]]) -> tuple[Picture, ...]:
    """Of one model, or of two for comparison."""
    from irprune.picture.build import picture_of, pictures_of

    if len(shown) == 1:
        ((name, graph),) = shown
        return (picture_of(graph, name),)
    (one, before), (two, after) = shown
    return pictures_of(before, after, (one, two))


def _report(
    shown: Sequence[tuple[str, Any]], drawn: tuple[Picture, ...], importance: Importance | None
) -> Report:
    from irprune.versions import versions

    names = tuple(name for name, _ in shown)
    stats = [graph.stats() for _, graph in shown]
    compare = len(shown) > 1
    rows = tuple(
        Row(title, "", tuple(getattr(s, key) for s in stats), compare=compare)
        for title, key in (
            ("parameters", "params"),
            ("FLOPs per atom", "flops_per_atom"),
            ("blocks", "blocks"),
            ("graph nodes", "nodes"),
        )
    )
    columns = names if len(set(names)) == len(names) and compare else ("before", "after")
    history = shown[-1][1].history
    return Report(
        title=" and ".join(names),
        models=columns if compare else ("model",),
        rows=rows,
        pictures=drawn,
        irreps=tuple(graph.irreps_per_layer() for _, graph in shown),
        irreps_names=columns if compare else ("model",),
        importance=importance,
        notes=(f"Made by the passes {','.join(history)}.",) if history else (),
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
