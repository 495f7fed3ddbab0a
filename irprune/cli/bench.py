"""``irprune bench``: kernels of all backends, or whole models, timed in turn."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options
from irprune.errors import EXIT_CHECK, UsageError

if TYPE_CHECKING:
    from irprune.cli.kernel_specs import NamedSpec
    from irprune.passmanager import Progress


@click.command("bench")
@click.argument("what", type=click.Choice(("kernels", "models")))
@click.argument("models", nargs=-1)
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="A kernel by name.")
@click.option(
    "--backend", "backends", multiple=True, metavar="NAME", help="Default: all that serve."
)
@click.option(
    "--rows", type=click.IntRange(2), default=20000, show_default=True, help="Edges, or rows."
)
@click.option(
    "--degree", type=click.FloatRange(1), help="Edges per atom. Default: the model's, or 40."
)
@click.option("--atoms", type=click.IntRange(1), default=64, show_default=True, help="Of models.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
@click.option(
    "-o", "--output", metavar="FILE", help="Keep results here, and take over those that are."
)
@common_options
def command(
    session: Session,
    what: str,
    models: tuple[str, ...],
    problems: tuple[str, ...],
    backends: tuple[str, ...],
    rows: int,
    degree: float | None,
    atoms: int,
    rounds: int,
    output: str | None,
) -> int:
    """Time the kernels of a model or problem by every backend, or whole MODELS, in turn.

    Ratios within one run are given, and no times: those of another run or machine do not compare.
    """
    if what == "kernels":
        if len(models) > 1:
            raise UsageError(f"bench kernels takes one model, got {len(models)}")
        session.check_device()
        work = _kernels(session, models, problems, backends, rows, degree, rounds)
    else:
        given = [n for n, v in (("--problem", problems), ("--backend", backends)) if v]
        if given:
            raise UsageError(f"bench models does not take {given[0]}; bench kernels does")
        work = _models(session, models, atoms, rounds)
    results = Kept(output, {"what": what, "device": session.device, "seed": session.seed})
    with session.progress("bench") as progress:
        for i, (name, settings, measure) in enumerate(work):
            progress(name, i, len(work))
            results.add(name, settings, functools.partial(measure, progress))
    payload = {"what": what, "device": session.device, "results": results.rows, "output": output}
    session.emit(payload)
    if not session.as_json:
        _print(session, payload)
    return 0 if all(r["ok"] for r in results.rows) else EXIT_CHECK


Measure = Callable[["Progress"], dict[str, Any]]
Work = list[tuple[str, dict[str, Any], Measure]]
"""(name, settings that a result must have to be taken over, what measures it)."""


class Kept:
    """Results by name; with a file, they are in it after each, and those that are in it are not
    measured again.

    Raises:
        UsageError: the file holds something else, or results of other versions.
    """

    def __init__(self, path: str | None, run: Mapping[str, Any]) -> None:
        from irprune.files import check_writable
        from irprune.versions import versions

        self.path = None if path is None else check_writable(path)
        self.run = {**run, "versions": versions()}
        self.rows: list[dict[str, Any]] = []
        self.known: list[dict[str, Any]] = []
        if self.path is not None and self.path.exists():
            try:
                found = json.loads(self.path.read_text(encoding="utf-8"))
                self.known = list(found.pop("results"))
            except (ValueError, KeyError, AttributeError, TypeError):
                raise UsageError(
                    f"{path} holds no results of irprune bench; remove it, or name another"
                ) from None
            if found != self.run:
                other = [k for k in self.run if found.get(k) != self.run[k]]
                raise UsageError(
                    f"the results in {path} are of another run ({', '.join(other)} differ); remove"
                    " it, or name another"
                )

    def add(
        self, name: str, settings: Mapping[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> None:
        """Takes a result over, or measures it."""
        asked = {"name": name, **settings}
        row = next((r for r in self.known if asked.items() <= r.items()), None)
        self.rows.append({**asked, **measure()} if row is None else row)
        if self.path is not None and row is None:
            from irprune.files import atomic_path

            mine = [r["name"] for r in self.rows]
            rest = [r for r in self.known if r["name"] not in mine]
            with atomic_path(self.path) as temporary:
                text = json.dumps({**self.run, "results": self.rows + rest}, indent=1)
                Path(temporary).write_text(text + "\n", encoding="utf-8")


def _kernels(
    session: Session,
    models: Sequence[str],
    problems: Sequence[str],
    backends: Sequence[str],
    rows: int,
    degree: float | None,
    rounds: int,
) -> Work:
    import dataclasses

    from irprune.cli.kernel_specs import named_specs

    on_cpu = dataclasses.replace(session, device="cpu")
    specs = named_specs(on_cpu, models[0] if models else None, problems, degree)

    def work(named: NamedSpec) -> tuple[str, dict[str, Any], Measure]:
        settings = {
            "spec": named.spec.key,
            "kind": type(named.spec).__name__,
            "dtype": named.dtype,
            "degree": named.degree,
            "asked": {"rows": rows, "rounds": rounds, "backends": list(backends)},
        }
        return named.name, settings, lambda _: _measure(session, named, backends, rows, rounds)

    return [work(named) for named in specs]


def _measure(
    session: Session, named: NamedSpec, backends: Sequence[str], rows: int, rounds: int
) -> dict[str, Any]:
    import torch

    from irprune.profile.kernels import compare_backends, operands, serving

    device, dtype = torch.device(session.device), getattr(torch, named.dtype)
    names, left = serving(named.spec, device, dtype, backends)
    given = operands(named.spec, rows, named.degree, dtype, device, session.seed)
    found = compare_backends(named.spec, given, names, rounds).to_json()
    return {
        **found,
        "left": left,
        "ok": all(e <= found["tolerance"] for e in found["errors"].values()),
    }


def _models(session: Session, models: Sequence[str], atoms: int, rounds: int) -> Work:
    if not models:
        raise UsageError("bench models needs at least one MODEL")
    session.only_cpu("bench models runs")

    def work(model: str) -> tuple[str, dict[str, Any], Measure]:
        settings = {"asked": {"atoms": atoms, "rounds": rounds, "dtype": session.dtype}}
        return model, settings, lambda progress: _whole(session, model, atoms, rounds, progress)

    return [work(model) for model in models]


def _whole(
    session: Session, model: str, size: int, rounds: int, progress: Progress
) -> dict[str, Any]:
    """A model as it is against what ``optimize`` makes of it: energies and forces are compared, then
    energy, forces and stress timed in turn.

    Raises:
        UsageError: a network without atoms, or a model that is optimized already.
    """
    import statistics

    from irprune import api
    from irprune.cli.profile import crystal
    from irprune.data.generate import repeated
    from irprune.profile.compare import in_turn
    from irprune.profile.model import ready
    from irprune.verification.physical import agreement

    graph = session.load(model)
    if graph.atomistic is None:
        raise UsageError(
            f"bench models needs an interatomic potential, but {model} is a network without atoms;"
            " bench kernels times its kernels"
        )
    if "lowered" in graph.facts:
        raise UsageError(f"{model} is optimized already; name the model that it was made of")
    progress(f"{model}, optimize", 0, None)
    fast = api.optimize(graph, verify=False)
    atoms = repeated(crystal([model], [graph]), size)
    subjects = [ready(g, atoms) for g in (graph, fast)]
    progress(f"{model}, compare", 0, None)
    moved = atoms.copy()
    moved.rattle(0.05, seed=session.seed)  # forces that symmetry makes vanish would be all rounding
    found = agreement(subjects[0].potential, subjects[1].potential, [moved], "agreement-folded")
    progress(f"{model}, in turn", 0, None)
    times = in_turn([s.call for s in subjects], rounds)
    ratios = [b / a for a, b in times]
    q1, median, q3 = (
        statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    )
    return {
        "atoms": len(atoms),
        "edges": subjects[0].batch.n_edges,
        "with_gradients": {
            "as it is": {"median": 1.0, "q1": 1.0, "q3": 1.0},
            "optimized": {"median": median, "q1": q1, "q3": q3},
        },
        "kernels": None if fast.kernels is None else fast.kernels.counts(),
        "errors": {"optimized": found.value},
        "tolerance": found.tolerance,
        "ok": found.ok,
    }


def _print(session: Session, payload: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "by"):
        table.add_column(heading, overflow="fold")
    for heading in ("values", "and gradients", "quartiles", "error"):
        table.add_column(heading, justify="right")
    for r in payload["results"]:
        for by, found in r["with_gradients"].items():
            forward = r.get("forward", {}).get(by)
            error = r.get("errors", {}).get(by)
            table.add_row(
                r["name"],
                by,
                "" if forward is None else f"×{forward['median']:.3g}",
                f"×{found['median']:.3g}",
                f"{found['q1']:.3g} to {found['q3']:.3g}",
                ""
                if error is None
                else f"{error:.1e}" + ("" if error <= r["tolerance"] else " FAILED"),
            )
    session.console.print("time, of the reference's (of the model's as it is)")
    session.console.print(table)
    for r in payload["results"]:
        for name, reason in r.get("left", {}).items():
            session.console.print(f"not timed for {r['name']}: {name}: {reason}", markup=False)
