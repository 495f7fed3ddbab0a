"""``irprune profile``: where the time goes, and how near it is to what the machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from irprune.cli.common import Session, common_options, existing_file
from irprune.cli.results import print_compiled
from irprune.errors import DataError, UsageError

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.profile.compare import Comparison
    from irprune.profile.model import Profile


@click.command("profile")
@click.argument("model")
@click.option("--compare", "other", metavar="OTHER", help="A second model, measured beside it.")
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
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Nodes to show.")
@click.option("--html", metavar="FILE", help="Write a report as one HTML file.")
@common_options
def command(
    session: Session,
    model: str,
    other: str | None,
    data: str | None,
    size: int,
    threads: int | None,
    repeats: int,
    top: int,
    html: str | None,
) -> int:
    """Time every node of MODEL, forward and backward, beside the peaks of this machine."""
    import torch

    from irprune.cli.profile_report import (
        build_report,
        names_of,
        print_profile,
        profiles_of,
        timed_pictures,
    )
    from irprune.data.generate import repeated
    from irprune.files import check_writable

    session.only_cpu("profile measures")
    existing_file(data, "the data file")
    if html:
        check_writable(html)
    names = (model,) if other is None else (model, other)
    graphs = [session.load(name) for name in names]
    for name, graph in zip(names, graphs, strict=True):
        if graph.atomistic is None:
            raise UsageError(
                f"profile needs an interatomic potential; the graph of {name} has no elements"
            )
    atoms = structure(session, data, names, graphs)
    if threads is not None:
        torch.set_num_threads(threads)
    found, compared = _measure(session, graphs, repeated(atoms, size), repeats)
    payload = {
        "model": model,
        "structure": atoms.get_chemical_formula(),
        **found.to_json(),
        "other": compared and {"model": other, **compared.second.to_json()},
        "ratio": compared and compared.ratio,
        "ratios": [] if compared is None else list(compared.ratios),
    }
    if html:
        from irprune.report.html import write

        drawn = timed_pictures(graphs, profiles_of(payload), names_of(payload))
        write(build_report(payload, top, drawn), html)
    session.emit(payload)
    if not session.as_json:
        print_profile(session.console, payload, top)
        print_compiled(session, payload["compiled"])
    return 0


def _measure(
    session: Session, graphs: Sequence[Any], atoms: Atoms, repeats: int
) -> tuple[Profile, Comparison | None]:
    """The profile of the first model, and what a second adds."""
    from irprune.profile.compare import compare
    from irprune.profile.model import profile

    with session.progress("profile") as progress:
        if len(graphs) == 1:

            def nodes(done: int, total: int) -> None:
                progress("nodes", done, total)

            return profile(graphs[0], atoms, repeats, nodes), None
        compared = compare(graphs[0], graphs[1], atoms, repeats, progress)
        return compared.first, compared


def structure(
    session: Session, data: str | None, names: Sequence[str], graphs: Sequence[Any]
) -> Atoms:
    """The first structure of a file, or a generated crystal; all of the models know its elements.

    Raises:
        DataError: one of them does not.
        UsageError: they have no element in common.
    """
    from irprune.data.frames import check_frames

    if data is None:
        return crystal(names, graphs)
    atoms: Atoms = session.frames(data, graphs[0].atomistic)[0]
    for name, graph in zip(names[1:], graphs[1:], strict=True):
        try:
            check_frames([atoms], graph.atomistic)
        except DataError as error:
            raise DataError(f"cannot run {name} on the structure in {data}: {error}") from error
    return atoms


def crystal(names: Sequence[str], graphs: Sequence[Any]) -> Atoms:
    """A generated crystal of elements that all models know.

    Raises:
        UsageError: they have none in common.
    """
    from irprune.data.generate import generate

    known = [g.atomistic.symbols for g in graphs]
    common = [s for s in known[0] if all(s in symbols for symbols in known)]
    if not common:
        raise UsageError(f"{' and '.join(names)} have no element in common to compare them on")
    frames = generate(common, 12, seed=0, max_atoms=8)
    return next((a for a in frames if a.pbc.all()), frames[0])
