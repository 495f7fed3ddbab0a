"""``irprune profile``: where the time goes, and how near it is to what the machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options, existing_file
from irprune.cli.results import print_compiled
from irprune.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.profile.model import Profile


@click.command("profile")
@click.argument("model")
@click.option("--data", metavar="FILE", help="Its first structure is used. Default: a crystal.")
@click.option(
    "--atoms",
    "size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="The structure is repeated along its periodic axes up to this size.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of torch. Default: all.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--top", type=click.IntRange(1), default=20, show_default=True, help="Nodes to print."
)
@common_options
def command(
    session: Session,
    model: str,
    data: str | None,
    size: int,
    threads: int | None,
    repeats: int,
    top: int,
) -> int:
    """Time every node of MODEL, forward and backward, beside the peaks of this machine."""
    import torch

    from irprune.profile.model import profile

    existing_file(data, "the data file")
    graph = session.load(model)
    if graph.atomistic is None:
        raise UsageError("profile needs an interatomic potential; this graph has no elements")
    atoms = session.frames(data, graph.atomistic)[0] if data else crystal(graph)
    if threads is not None:
        torch.set_num_threads(threads)
    with session.progress("profile") as progress:
        found = profile(
            graph,
            repeated(atoms, size),
            repeats,
            lambda done, total: progress("nodes", done, total),
        )
    payload = {
        "model": model,
        "structure": atoms.get_chemical_formula(),
        **found.to_json(),
    }
    session.emit(payload)
    if not session.as_json:
        _print(session, found, top)
    return 0


def crystal(graph: Any) -> Atoms:
    """A generated crystal of elements that the model knows."""
    from irprune.data.generate import generate

    frames = generate(graph.atomistic, 12, seed=0, max_atoms=8)
    return next((a for a in frames if a.pbc.all()), frames[0])


def repeated(atoms: Atoms, size: int) -> Atoms:
    """The structure repeated along its shortest periodic axis until it has ``size`` atoms."""
    import numpy as np

    while len(atoms) < size and atoms.pbc.any():
        lengths = np.where(atoms.pbc, atoms.cell.lengths(), np.inf)
        times = [1, 1, 1]
        times[int(np.argmin(lengths))] = 2
        atoms = atoms.repeat(times)
    return atoms


def _print(session: Session, found: Profile, top: int) -> None:
    from rich.table import Table

    def millis(x: float) -> str:
        return f"{x * 1e3:.2f}"

    for title, rows in (("op", found.by_op()), ("node", [n.to_json() for n in found.nodes[:top]])):
        table = Table(box=None, pad_edge=False)
        table.add_column(title, overflow="fold")
        for heading in ("forward ms", "backward ms", "% of call", "MFLOP", "MB", "% of peak"):
            table.add_column(heading, justify="right")
        for row in rows:
            share = (row["forward"] + row["backward"]) / found.call
            table.add_row(
                str(row[title]),
                millis(row["forward"]),
                millis(row["backward"]),
                f"{100 * share:.1f}",
                f"{row['flops'] / 1e6:.1f}",
                f"{row['bytes'] / 1e6:.2f}",
                f"{100 * row['share_of_peak']:.0f}",
            )
        session.console.print(table)
        session.console.print("")
    session.console.print(
        f"{found.atoms} atoms, {found.edges} edges, {found.threads} threads, {found.dtype}: one call"
        f" {millis(found.call)} ms, of which nodes {millis(found.inside)} ms; neighbour list"
        f" {millis(found.neighbours)} ms beside it\npeaks of this machine:"
        f" {found.peaks.flops / 1e9:.1f} GFLOP/s (matrix product),"
        f" {found.peaks.bandwidth / 1e9:.1f} GB/s (copy)",
        markup=False,
    )
    print_compiled(session, found.compiled)
