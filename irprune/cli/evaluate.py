"""``irprune evaluate``: errors against labels, or against another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from irprune.cli.common import Session, common_options, existing_file, keys_option
from irprune.cli.results import compiled_json, print_compiled, sizes
from irprune.report.model import Report, Row

_ROWS = (
    ("energy MAE", "eV/atom", "energy_mae_ev_per_atom"),
    ("energy RMSE", "eV/atom", "energy_rmse_ev_per_atom"),
    ("force MAE", "eV/Å", "force_mae_ev_per_a"),
    ("force RMSE", "eV/Å", "force_rmse_ev_per_a"),
    ("largest force error", "eV/Å", "force_max_ev_per_a"),
    ("stress MAE", "GPa", "stress_mae_gpa"),
)


@click.command("evaluate")
@click.argument("model")
@click.option("--data", required=True, metavar="FILE", help="Structures that ASE reads.")
@click.option("--reference", metavar="MODEL2", help="Compare with this model as well.")
@keys_option
@click.option("--head", help="The head of models that have several.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@common_options
def command(
    session: Session,
    model: str,
    data: str,
    reference: str | None,
    keys: str | None,
    head: str | None,
    batch_size: int,
) -> int:
    """Errors of MODEL against the labels in FILE.

    With --reference also those of MODEL2, and of MODEL with MODEL2's predictions as reference. If
    FILE has no labels, only the latter.
    """
    from irprune.compiling.compiled import counts_of
    from irprune.data.frames import LABELS, labels_of
    from irprune.evaluation.metrics import compare_potentials, evaluate_frames

    existing_file(data, "the data file")
    graph = session.load(model)
    other_graph = None if reference is None else session.load(reference)
    frames = session.frames(data, graph.atomistic, keys=keys)
    labelled = any(labels_of(a).has(n) for a in frames for n in LABELS)
    ours = _potential(session, graph, head)
    theirs = None if other_graph is None else _potential(session, other_graph, head)
    results: dict[str, Mapping[str, Any]] = {}
    with session.progress("evaluate") as progress:

        def telling(label: str) -> Any:
            return lambda done, total: progress(label, done, total)

        if labelled or theirs is None:
            found = evaluate_frames(ours, frames, batch_size, telling(model))
            results["labels"] = found.to_json()
        if theirs is not None:
            if labelled:
                found = evaluate_frames(theirs, frames, batch_size, telling(str(reference)))
                results["reference"] = found.to_json()
            found = compare_potentials(ours, theirs, frames, batch_size, telling("difference"))
            results["difference"] = found.to_json()
    first = results["labels"] if labelled else results["difference"]
    stats = graph.stats()
    payload = {
        "model": model,
        "reference_model": reference,
        "compared_with": "labels" if labelled else reference,
        "tier": None,
        **(sizes(stats) if other_graph is None else sizes(other_graph.stats(), stats)),
        "irreps": graph.irreps_per_layer(),
        "checks": [],
        **first,
        "reference": results.get("reference"),
        "difference": results.get("difference"),
        "compiled": compiled_json(graph, counts_of(ours)),
    }
    session.emit(payload)
    if not session.as_json:
        _print(session, model, reference, results)
        print_compiled(session, payload["compiled"])
    return 0


def _potential(session: Session, graph: Any, head: str | None) -> Any:
    from irprune import api
    from irprune.evaluation.potential import Potential

    found = api.potential(graph, dtype=session.dtype)
    return Potential(found.module, found.atomistic, head).to(device=session.device)


def _print(
    session: Session,
    model: str,
    reference: str | None,
    results: Mapping[str, Mapping[str, Any]],
) -> None:
    from irprune.report.terminal import comparison_table

    names = {
        "labels": model,
        "reference": str(reference),
        "difference": f"{model} − {reference}",
    }
    shown = [key for key in names if key in results]
    rows = tuple(
        Row(text, unit, tuple(results[key][field] for key in shown)) for text, unit, field in _ROWS
    )
    first = results[shown[0]]
    title = f"{first['n_frames']} structures, {first['n_atoms']} atoms"
    report = Report(title, tuple(names[key] for key in shown), rows)
    session.console.print(comparison_table(report))
    for label, count in first["missing"].items():
        session.console.print(f"{count} structures have no {label}")
