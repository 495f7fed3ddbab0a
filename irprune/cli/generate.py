"""``irprune generate``: structures without labels, for elements that a model knows."""

from __future__ import annotations

from pathlib import Path

import click

from irprune.cli.common import Session, common_options
from irprune.errors import UsageError


@click.command("generate")
@click.argument("model")
@click.option("-n", "--number", type=click.IntRange(1), default=100, show_default=True)
@click.option("--elements", metavar="SYMBOLS", help="Such as Mo,Nb. Default: all of MODEL.")
@click.option(
    "--kinds",
    default="crystal,rattled,strained,surface,vacancy,molecule",
    show_default=True,
    help="Taken in turn; also melt: the end of short molecular dynamics with MODEL.",
)
@click.option("--max-atoms", type=click.IntRange(2), default=32, show_default=True)
@click.option("--temperature", type=float, default=3000.0, show_default=True, help="Of melts, K.")
@click.option("-o", "--output", metavar="OUT", required=True, help="A file that ASE writes.")
@common_options
def command(
    session: Session,
    model: str,
    number: int,
    elements: str | None,
    kinds: str,
    max_atoms: int,
    temperature: float,
    output: str,
) -> int:
    """Write structures without labels to OUT: for score, recover --teacher, evaluate --reference."""
    from ase.io import write
    from ase.io.formats import filetype, ioformats

    from irprune import api
    from irprune.atomistic import numbers_of
    from irprune.data.generate import generate
    from irprune.data.melts import melts
    from irprune.files import atomic_path, check_writable

    path = check_writable(Path(output))
    kind = ioformats.get(filetype(str(path), read=False))
    if kind is None or not kind.can_write:
        raise UsageError(
            f"ASE knows no format for {path.name}; name a file that ends in .extxyz, .xyz or .db"
        )
    names = [k for k in kinds.replace(",", " ").split() if k]
    if "melt" not in names:
        session.only_cpu("generate without melts runs")
    graph = session.load(model)
    if graph.atomistic is None:
        raise UsageError(f"{model} is no interatomic potential: it has no elements")
    chosen = graph.atomistic.atomic_numbers
    if elements is not None:
        chosen = numbers_of(s for s in elements.replace(",", " ").split() if s)
        graph.atomistic.species_of(chosen)
    if not names:
        raise UsageError(f"--kinds names none: {kinds!r}")
    calm = tuple(k for k in names if k != "melt")
    wanted = [names[i % len(names)] for i in range(number)]
    molten = wanted.count("melt")
    made = generate(chosen, number - molten, session.seed, calm, max_atoms) if calm else []
    if molten:
        calculator = api.calculator(
            api.optimize(graph, verify=False) if "lowered" not in graph.facts else graph,
            device=session.device,
            head=graph.atomistic.any_head(),
        )
        with session.progress("generate") as progress:
            made += melts(
                chosen,
                molten,
                session.seed,
                calculator,
                temperature=temperature,
                max_atoms=max_atoms,
                progress=lambda done, total: progress("melts", done, total),
            )
    with atomic_path(path) as temporary:
        write(temporary, made)
    counts = {k: wanted.count(k) for k in dict.fromkeys(names)}
    payload = {"model": model, "output": str(path), "structures": len(made), "kinds": counts}
    session.emit(payload)
    if not session.as_json:
        told = ", ".join(f"{n} {k}" for k, n in counts.items())
        session.console.print(f"written: {path} ({len(made)} structures: {told})")
    return 0
