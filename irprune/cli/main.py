"""The command ``irprune``: finds the verb, and turns every error into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence

import click

from irprune.cli.common import write_json
from irprune.errors import EXIT_USAGE, IrpruneError

VERBS = (
    "show",
    "diff",
    "prune",
    "optimize",
    "profile",
    "tune",
    "bench",
    "run",
    "rerun",
    "bisect",
    "reduce",
    "recover",
    "generate",
    "evaluate",
    "verify",
    "export",
    "passes",
    "ops",
    "demo",
)
EXIT_INTERNAL = 70
"""A defect of irprune itself: neither the user's call nor the model file."""
EXIT_INTERRUPT = 130


_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Verbs(click.Group):
    """Imports a verb's module only when the verb is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"irprune.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"max_content_width": 100})
@click.version_option(package_name="irprune", prog_name="irprune")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Prunes SO(3)-equivariant interatomic potentials (MACE, SevenNet), and proves it.

    MODEL is a file, or a name that its family knows (7net-0, 7net-l3i5).

    Exit codes: 0 ok, 1 a check failed, 2 usage, 3 a model file that cannot be read, is not trusted
    or is not supported.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


def run(args: Sequence[str]) -> int:
    """Runs the command line and gives the exit code."""
    # threads that wait must not spin: on a busy machine that costs a factor of ten
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    as_json = "--json" in args
    stdout = sys.stdout
    try:
        with contextlib.ExitStack() as stack:
            if as_json:  # whatever a library prints, stdout holds one object
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if not sys.warnoptions:
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            code = cli.main(
                args=list(args), prog_name="irprune", standalone_mode=False, obj={"stdout": stdout}
            )
        return code if isinstance(code, int) else 0
    except IrpruneError as error:
        return _fail(str(error), error.exit_code, as_json)
    except click.ClickException as error:
        return _fail(error.format_message(), EXIT_USAGE, as_json)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPT, as_json)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_USAGE, as_json)
    except Exception as error:
        return _fail(
            f"unexpected {type(error).__name__}: {_first_line(error)} (this is a defect of"
            " irprune; IRPRUNE_TRACEBACK=1 shows where)",
            EXIT_INTERNAL,
            as_json,
        )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


def _fail(message: str, code: int, as_json: bool) -> int:
    if os.environ.get("IRPRUNE_TRACEBACK") == "1":
        traceback.print_exc()
    line = " ".join(_ANSI.sub("", message).split())
    sys.stderr.write(f"error: {line}\n")
    if as_json:
        write_json({"error": line, "exit_code": code}, sys.stdout)
    return code


def main() -> None:
    """Entry point of the script ``irprune``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
