"""``irprune recover``: train a model to a teacher, to labels, or to both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from irprune.cli.common import Session, common_options, existing_file, exit_code, keys_option
from irprune.cli.job import TARGETS
from irprune.cli.results import checks_json, sizes
from irprune.cli.settings import field_options
from irprune.errors import DataError, UsageError
from irprune.recover.settings import Settings


@click.command("recover")
@click.argument("student")
@click.option("--teacher", metavar="MODEL", help="What the student learns from; no labels needed.")
@click.option("--data", metavar="FILE", help="Structures that ASE reads. Default: generated ones.")
@click.option("--valid-data", metavar="FILE", help="Structures held out, instead of --valid.")
@keys_option
@click.option(
    "--structures",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="How many structures to generate where no data are given.",
)
@click.option("--scratch", is_flag=True, help="Begin with new random weights (native structures).")
@click.option("--head", help="The head of models that have several.")
@click.option("--run-dir", metavar="DIR", help="Keeps state, best weights and log.jsonl here.")
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir, if there is one.")
@click.option("--tensorboard", is_flag=True, help="Write logs for TensorBoard to --run-dir too.")
@click.option("--target", type=click.Choice(TARGETS), default="auto", show_default=True)
@click.option("-o", "--output", metavar="OUT", help="The file to write the result to.")
@field_options(Settings)
@common_options
def command(
    session: Session,
    student: str,
    teacher: str | None,
    data: str | None,
    valid_data: str | None,
    keys: str | None,
    structures: int,
    scratch: bool,
    head: str | None,
    run_dir: str | None,
    resume: bool,
    tensorboard: bool,
    target: str,
    output: str | None,
    **fields: Any,
) -> int:
    """Train STUDENT on the structures in FILE, and write it to OUT.

    With --teacher it learns that model's energies and forces, else the labels of the data. Several
    processes share the work under torchrun.
    """
    from irprune.export import export
    from irprune.files import check_writable
    from irprune.recover.fresh import fresh
    from irprune.recover.graphs import recover_graph
    from irprune.recover.parallel import join_group, own_device
    from irprune.recover.runfolder import RunFolder

    settings = Settings(**fields)
    settings.check()
    if run_dir is None and (resume or tensorboard):
        raise UsageError("--resume and --tensorboard need --run-dir DIR")
    if valid_data is not None and settings.valid:
        raise UsageError("give --valid-data FILE or --valid SHARE, not both")
    if settings.group is not None and not settings.valid:
        raise UsageError("--group says what --valid holds out together; give --valid SHARE")
    for path, what in ((data, "the data file"), (valid_data, "the file of held-out structures")):
        existing_file(path, what)
    out = check_writable(Path(output)) if output else None
    graph = session.load(student)
    wise = None if teacher is None else session.load(teacher)
    if graph.atomistic is None:
        raise UsageError(f"{student} is no interatomic potential: it has no cutoff and no elements")
    frames = _structures(session, graph, wise is not None, data, keys, structures)
    valid = None
    if valid_data is not None:
        valid = session.frames(valid_data, graph.atomistic, keys=keys)
        _check_apart(frames, valid, valid_data)
    before = graph.stats()
    if scratch:
        graph = fresh(graph, session.seed)
    processes = join_group(session.device)
    run = None if run_dir is None else RunFolder(Path(run_dir), tensorboard)
    with session.progress("recover") as progress:
        trained, result = recover_graph(
            graph,
            wise,
            frames,
            settings,
            valid=valid,
            seed=session.seed,
            device=own_device(session.device),
            processes=processes,
            run=run,
            resume=resume,
            progress=progress,
            **({} if head is None else {"head": head}),
        )
    if not processes.first:
        return 0
    exported = None if out is None else export(trained, out, target)
    checks = () if exported is None else exported.checks
    payload = {
        "model": student,
        "teacher": teacher,
        "output": None if exported is None else str(exported.path),
        "tier": None if exported is None else exported.tier,
        **sizes(before, trained.stats()),
        "irreps": trained.irreps_per_layer(),
        "checks": checks_json(checks),
        **result.to_json(),
    }
    session.emit(payload)
    if not session.as_json:
        _print(session, payload)
    return exit_code(checks)


def _structures(
    session: Session, graph: Any, taught: bool, data: str | None, keys: str | None, number: int
) -> Sequence[Any]:
    """What to learn from: those of the file, or generated ones where a teacher labels them.

    Raises:
        UsageError: neither a file nor a teacher.
    """
    if data is not None:
        return session.frames(data, graph.atomistic, keys=keys)
    if not taught:
        raise UsageError(
            "recover needs --data FILE with labels, or --teacher MODEL, or both: generated"
            " structures have no labels"
        )
    from irprune.data.generate import generate

    return generate(graph.atomistic, number, session.seed + 1, max_atoms=16)


def _check_apart(frames: Sequence[Any], valid: Sequence[Any], name: str) -> None:
    """
    Raises:
        DataError: structures that are both learned from and held out.
    """
    from irprune.recover.fingerprint import shared

    both = shared(frames, valid)
    if both:
        raise DataError(
            f"{len(both)} of {len(valid)} structures of {name} are among those to learn from (the"
            f" first is number {both[0]}), so errors on them say nothing; hold out others"
        )


def _print(session: Session, payload: dict[str, Any]) -> None:
    from irprune.report.model import Report, Row
    from irprune.report.terminal import comparison_table

    title = (
        f"{payload['steps']} steps ({payload['stopped']}), {payload['n_frames']} structures,"
        f" {payload['n_left_out']} left out, {payload['n_valid']} held out"
    )
    rows = payload["history"]
    held = payload["validation"]
    columns = {"first step": rows[:1], "last step": rows[-1:]}
    if held:
        columns |= {"held out, first": held[:1], "held out, last": held[-1:]}
    names = [k for k in (rows[:1] or [{}])[0] if "_mae" in k or k == "loss"]
    shown = {k: v[0] for k, v in columns.items() if v}
    if shown:
        values = tuple(Row(n, "", tuple(v.get(n) for v in shown.values())) for n in names)
        session.console.print(comparison_table(Report(title, tuple(shown), values)))
    else:  # a deadline before the first step
        session.console.print(title)
    if payload["best"] is not None:
        session.console.print(f"best on held-out structures after step {payload['best']}")
    if payload["output"] is not None:
        session.console.print(f"written: {payload['output']} (tier: {payload['tier']})")
