"""``irprune export``: a model file in another tier or format."""

from __future__ import annotations

from pathlib import Path

import click

from irprune.cli.common import Session, common_options, exit_code
from irprune.cli.job import TARGETS
from irprune.cli.results import checks_json, print_run, sizes


@click.command("export")
@click.argument("model")
@click.option("-o", "--output", metavar="OUT", required=True, help="The file to write.")
@click.option("--target", type=click.Choice(TARGETS), default="auto", show_default=True)
@click.option("--no-verify", is_flag=True, help="Do not reload and compare in a fresh process.")
@common_options
def command(session: Session, model: str, output: str, target: str, no_verify: bool) -> int:
    """Write MODEL to OUT for a target, reload it in a fresh process and compare."""
    from irprune.export import export
    from irprune.files import check_writable

    session.only_cpu("export computes")
    path = check_writable(Path(output))
    graph = session.load(model)
    with session.progress("export") as progress:
        progress(target, 0, 1)
        exported = export(graph, path, target, verify=not no_verify)
    stats = graph.stats()
    irreps = graph.irreps_per_layer()
    payload = {
        "model": model,
        "output": str(exported.path),
        "tier": exported.tier,
        **sizes(stats),
        "irreps": irreps,
        "checks": checks_json(exported.checks),
    }
    session.emit(payload)
    if not session.as_json:
        print_run(session, payload, None, (), stats, stats)
    return exit_code(exported.checks)
