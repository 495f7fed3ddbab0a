"""``irprune verify``: the ladder of checks on a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options, existing_file, exit_code
from irprune.cli.results import checks_json, sizes
from irprune.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.passmanager import Progress
    from irprune.verification.checks import Check


@click.command("verify")
@click.argument("model")
@click.option("--against", metavar="MODEL2", help="A model that MODEL claims to be equal to.")
@click.option(
    "-p",
    "--pipeline",
    "pipeline_text",
    metavar="PIPELINE",
    help="Run this on MODEL first, and check what comes out, with what it claims.",
)
@click.option("--data", metavar="FILE", help="Structures to check on. Default: generated ones.")
@click.option(
    "--structures",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many, evenly spaced over the data.",
)
@click.option("--no-reload", is_flag=True, help="Do not load the file in a fresh process.")
@common_options
def command(
    session: Session,
    model: str,
    against: str | None,
    pipeline_text: str | None,
    data: str | None,
    structures: int,
    no_reload: bool,
) -> int:
    """Check MODEL: types, symmetries, forces, stress, energy conservation, reload."""
    from irprune import api
    from irprune.data.choice import evenly
    from irprune.passmanager import Pipeline
    from irprune.verification.ladder import claim_rung, masked_sliced_rung, network_rung, types_rung

    existing_file(data, "the data file")
    steps = None if pipeline_text is None else Pipeline.of(pipeline_text)
    graph = session.load(model)
    other_graph = None if against is None else session.load(against)
    path = None if steps is not None or no_reload else _file_of(graph, model)
    if graph.atomistic is None:
        session.log(f"{model} is a network, no potential: it is checked on random inputs")
        if data:
            raise UsageError(f"verify --data: {model} does not run on atoms; leave it out")
        frames: Sequence[Atoms] | None = None
    elif data:
        frames = evenly(session.frames(data, graph.atomistic), structures)
    else:
        frames = api.generated_frames(graph, structures, session.seed)
    with session.progress("verify") as progress:
        if steps is not None:
            graph = api.run(steps, graph, frames, seed=session.seed, dtype=session.dtype)
        checks: list[Check] = [types_rung(graph)]
        if graph.origin is not None:
            progress("masked = sliced", 0, None)
            checks.append(masked_sliced_rung(graph, frames))
        if graph.claim is not None:
            progress("claim", 0, None)
            checks.append(claim_rung(graph, frames))
        if frames is None:
            checks += [] if other_graph is None else [network_rung(graph, other_graph)]
        else:
            checks += _on_atoms(session, graph, other_graph, frames, progress)
        if path is not None:
            progress("reload in a fresh process", 0, None)
            checks += _reload(graph, path, frames)
    payload = {
        "model": model,
        "against": against,
        "pipeline": None if steps is None else steps.text(),
        "tier": None,
        **(
            sizes(graph.stats())
            if other_graph is None
            else sizes(other_graph.stats(), graph.stats())
        ),
        "irreps": graph.irreps_per_layer(),
        "structures": [a.get_chemical_formula() for a in frames or ()],
        "checks": checks_json(checks),
        "ok": all(c.ok for c in checks),
    }
    session.emit(payload)
    if not session.as_json:
        from irprune.report.terminal import checks_table

        session.console.print(checks_table(payload["checks"]))
    return exit_code(checks)


def _on_atoms(
    session: Session, graph: Any, other: Any, frames: Sequence[Atoms], progress: Progress
) -> list[Check]:
    """The checks of a potential: the compiled function, and the physical rungs."""
    from irprune import api
    from irprune.verification.physical import run_ladder

    checks: list[Check] = []
    if graph.compiled is not None:
        from irprune.compiling.rung import compiled_rung

        progress("compiled", 0, None)
        checks.append(compiled_rung(graph, frames))
    ours, theirs = (
        None if g is None else api.potential(g, dtype=dtype(session), compiled=False)
        for g in (graph, other)
    )
    assert ours is not None
    return checks + run_ladder(
        ours.to(device=session.device),
        frames,
        against=None if theirs is None else theirs.to(device=session.device),
        progress=lambda done, total: progress("ladder", done, total),
        folded=any(g is not None and "lowered" in g.facts for g in (graph, other)),
    )


def dtype(session: Session) -> str:
    """The ladder runs in float64 unless told otherwise: its tolerances are tight there."""
    return session.dtype or "float64"


def _file_of(graph: Any, model: str) -> Path | None:
    """The file that the model was read from, also where it was named."""
    source = "" if graph.source is None else str(graph.source.path)
    return next((Path(p) for p in (model, source) if p and Path(p).is_file()), None)


def _reload(graph: Any, path: Path, frames: Sequence[Atoms] | None) -> Sequence[Check]:
    from irprune.export import reload_network
    from irprune.families.inspect import is_graph_file
    from irprune.families.reload import reload_check

    if frames is None:
        return reload_network(graph, path)
    tier = "graph" if is_graph_file(path) else "native"
    dtypes = None if graph.source is None else graph.source.config.get("reload_dtypes")
    found: Sequence[Check] = reload_check(graph, tier, path, frames, dtypes)
    return found
