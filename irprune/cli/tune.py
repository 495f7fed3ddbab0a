"""``irprune tune``: the fastest layout of the kernels of a model, for a GPU that is here or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options

if TYPE_CHECKING:
    from irprune.cli.kernel_specs import NamedSpec


@click.command("tune")
@click.argument("model", required=False)
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="A kernel by name.")
@click.option("--arch", metavar="NAME", help="GPU to compile for, such as sm_90 or gfx942.")
@click.option(
    "--degree", type=click.FloatRange(1), help="Edges per atom. Default: the model's, or 40."
)
@click.option(
    "--best", type=click.IntRange(1), default=6, show_default=True, help="How many to time."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=9, show_default=True, help="Times of each."
)
@click.option(
    "--jobs", type=click.IntRange(1), help="Compile so many at once. Default: one per processor."
)
@click.option("--fresh", is_flag=True, help="Leave aside what is known, and find it again.")
@click.option(
    "--table", metavar="FILE", help="Add what was found to a table that can be handed on."
)
@click.option("--winners", is_flag=True, help="In the table, only the winner of each kernel.")
@common_options
def command(
    session: Session,
    model: str | None,
    problems: tuple[str, ...],
    arch: str | None,
    degree: float | None,
    best: int,
    rounds: int,
    jobs: int | None,
    fresh: bool,
    table: str | None,
    winners: bool,
) -> int:
    """Find the fastest configuration of the Triton kernels of MODEL, and keep it.

    Without a GPU configurations are compiled for --arch and ranked. With --device cuda the best
    few are timed.
    """
    from irprune.cli.kernel_specs import named_specs
    from irprune.devices import processors
    from irprune.errors import UsageError
    from irprune.files import check_writable
    from irprune.tuning import TuneError, TuneRequest, tuner_named

    if table:
        check_writable(table)
    elif winners:
        raise UsageError("--winners says what a table holds: give --table FILE too")
    session.check_device()
    if session.device == "cpu" and arch is None:
        raise UsageError("no GPU is used here: name what to compile for, such as --arch sm_90")
    tuner = tuner_named("triton")
    results: list[dict[str, Any]] = []
    declined: dict[str, str] = {}
    device = session.device
    specs = named_specs(_on_cpu(session), model, problems, degree)
    with session.progress("tune") as progress:
        for i, named in enumerate(specs):
            request = TuneRequest(
                named.spec, named.dtype, arch, named.degree, device, best, rounds, fresh,
                jobs or processors(),
            )  # fmt: skip
            reason = tuner.declines(request)
            if reason is not None:
                declined[named.name] = reason
                continue

            def report(label: str, done: int, total: int | None = None, i: int = i) -> None:
                progress(f"{specs[i].name} ({i + 1}/{len(specs)}), {label}", done, total)

            try:
                results.append(_row(named, tuner.tune(request, report)))
            except TuneError as error:  # the others can be tuned all the same
                declined[named.name] = error.args[0]
    if not results:
        raise UsageError(f"there is nothing to tune: {'; '.join(dict.fromkeys(declined.values()))}")
    if table:
        tuner.write_table(table, [r["entry"] for r in results], winners)
    payload = {
        "model": model,
        "tuner": tuner.name,
        "results": results,
        "declined": declined,
        "table": table,
    }
    session.emit(payload)
    if not session.as_json:
        _print(session, payload)
    return 0


def _on_cpu(session: Session) -> Session:
    """Models are loaded on the CPU, wherever their kernels run."""
    import dataclasses

    return dataclasses.replace(session, device="cpu")


def _row(named: NamedSpec, entry: Mapping[str, Any]) -> dict[str, Any]:
    candidates = entry["candidates"]
    best = next((c for c in candidates if c["config"] == entry["winner"]), None)
    return {
        "name": named.name,
        "architecture": entry["key"]["architecture"],
        "dtype": entry["key"]["dtype"],
        "degree": entry["key"]["degree"],
        "winner": entry["winner"],
        "stage": entry["stage"],
        "cached": entry["cached"],
        "tried": len(candidates),
        "rejected": sum(c["rejected"] is not None for c in candidates),
        "registers": None if best is None else max(k["registers"] for k in best["kernels"]),
        "occupancy": None if best is None else min(k["occupancy"] for k in best["kernels"]),
        "entry": {k: v for k, v in entry.items() if k != "cached"},
    }


def _print(session: Session, payload: Mapping[str, Any]) -> None:
    stages = {1: "by compilation", 2: "timed"}
    for r in payload["results"]:
        session.console.print(
            f"{r['name']}: {r['winner']}\n"
            f"  on {r['architecture']} in {r['dtype']} with about {r['degree']} edges per atom,"
            f" {stages[r['stage']]}{' (known)' if r['cached'] else ''}\n"
            f"  {r['tried']} tried, {r['rejected']} rejected; {r['registers']} registers, occupancy"
            f" {r['occupancy']:.2f}",
            markup=False,
        )
    for name, reason in payload["declined"].items():
        session.console.print(f"declined {name}: {reason}", markup=False)
    if any(r["stage"] == 1 for r in payload["results"]):
        session.console.print(
            "compilation only: nothing was timed (--device cuda on that GPU does)", markup=False
        )
    if payload["table"]:
        session.console.print(f"written: {payload['table']}", markup=False)
