"""``irprune rerun``: a recorded run again, and whether it gives the same bytes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from irprune.cli.common import Session, common_options, existing_file
from irprune.errors import EXIT_CHECK, UsageError


@click.command("rerun")
@click.argument("recipe")
@click.option("-o", "--output", metavar="OUT", help="Where to write the result, same bytes or not.")
@click.option("--model", metavar="MODEL", help="The model, where it is no more where it was.")
@click.option(
    "--data", metavar="FILE", help="The structures, where they are no more where they were."
)
@common_options
def command(
    session: Session, recipe: str, output: str | None, model: str | None, data: str | None
) -> int:
    """Run what RECIPE records, the --json of run, prune or optimize, and compare the file it writes."""
    import torch

    from irprune import api
    from irprune.export import export
    from irprune.files import atomic_path, check_writable
    from irprune.passmanager import Pipeline
    from irprune.recipe import Recipe, differences, file_of, sha256

    _refuse_own_options()
    found = Recipe.read(recipe)
    if found.output is None or found.output_sha256 is None:
        raise UsageError(
            f"{recipe} records a run that wrote no file, so there is nothing to compare; record one"
            " with -o"
        )
    pipeline = Pipeline.parse(found.pipeline)
    if any(p.name == "export" for p in pipeline.passes):
        raise UsageError(
            f"{recipe}: its pipeline exports by itself, to {found.output}, which rerun would"
            " overwrite; record a run with -o in the place of the pass export"
        )
    if output is not None:
        check_writable(output)
    data = found.data if data is None else data
    existing_file(data, "the data file")
    used = Session(session.as_json, found.seed, "cpu", found.dtype, session.trust, session.stdout)
    torch.set_num_threads(_threads(found.machine, recipe))
    graph = used.load(found.model if model is None else model)
    differs = differences(found, file_of(model or found.model, graph), data)
    for name, (then, now) in differs.items():
        session.log(f"{name} differs: {then} recorded, {now} here")
    frames = used.frames(data, graph.atomistic) if data else None
    with tempfile.TemporaryDirectory() as folder, session.progress("rerun") as progress:
        # writers put the name of the file into it
        path = Path(folder) / Path(found.output).name
        made, _ = api.run_reported(
            pipeline, graph, frames, seed=found.seed, target=found.target, dtype=found.dtype,
            output=path, progress=progress,
        )  # fmt: skip
        export(made, path, found.target, verify=False)  # equal bytes say more than a reload
        got = sha256(path)
        if output is not None:
            with atomic_path(output) as temporary:
                shutil.copyfile(path, temporary)
    same = got == found.output_sha256
    payload = {
        "recipe": recipe,
        "pipeline": found.pipeline,
        "output": output,
        "sha256": got,
        "sha256_recorded": found.output_sha256,
        "same": same,
        "differs": {name: {"recorded": then, "here": now} for name, (then, now) in differs.items()},
    }
    session.emit(payload)
    if not session.as_json:
        say = session.console.print
        say(f"{'the same bytes' if same else 'OTHER BYTES'}: sha256 {got}")
        if not same:
            say(f"recorded: {found.output_sha256}")
        for name, (then, now) in differs.items():
            say(f"{name}: {then} recorded, {now} here")
        if not same and not differs:
            say(
                "no input, no version and nothing of the machine that is recorded differs; pipelines"
                " that look at the clock (latency, deadline) do not give the same bytes twice"
            )
    return 0 if same else EXIT_CHECK


def _refuse_own_options() -> None:
    """What the recipe says is not said a second time."""
    from click.core import ParameterSource

    context = click.get_current_context()
    for name in ("seed", "dtype", "device"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"rerun takes --{name} from the recipe; leave it out")


def _threads(machine: object, recipe: str) -> int:
    """The recorded number of threads: sums in another order differ in the last digit."""
    recorded = machine.get("threads", "") if isinstance(machine, dict) else ""
    if not str(recorded).isdigit() or int(recorded) < 1:
        raise UsageError(
            f"{recipe} is no recipe: machine.threads is {recorded!r}, expected a number"
        )
    return int(recorded)
