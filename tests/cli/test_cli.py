"""The command line: exit codes, one-line errors, one JSON object, no torch where none is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from irprune.cli import common
from irprune.cli import main as cli
from irprune.errors import CheckFailed, ModelFileError, UsageError

LISTED = (
    "show",
    "diff",
    "prune",
    "run",
    "rerun",
    "bisect",
    "reduce",
    "evaluate",
    "verify",
    "export",
    "passes",
    "ops",
    "demo",
)


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.run(args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def is_one_line_error(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["passes"], ["passes", "--json"]])
def test_start_imports_no_torch(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from irprune.cli.main import run\n"
        f"code = run({args!r})\n"
        "heavy = sorted({'torch', 'e3nn', 'ase', 'scipy', 'mace', 'sevenn'} & set(sys.modules))\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for verb in LISTED:
        assert re.search(rf"^  {verb} ", out, re.MULTILINE), verb


@pytest.mark.parametrize("verb", LISTED)
def test_every_verb_has_the_common_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    for option in ("--json", "--seed", "--device", "--dtype", "--trust-pickle"):
        assert option in out


def test_no_verb_prints_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys)
    assert (code, out) == (2, "")
    assert "Usage: irprune" in err


USAGE = [
    (["nonsense"], "No such command 'nonsense'"),
    (["show"], "Missing argument 'MODEL'"),
    (["show", "x.pth", "--html", "/no/such/folder/r.html"], "there is no folder /no/such/folder"),
    (["show", "7net-0", "--costs"], "show --costs is a part of the text: give --text as well"),
    (["show", "7net-0", "--against", "7net-0"], "give --html or --svg as well, or compare the two"),
    (["show", "x.pth", "--svg", "/no/such/folder/g.svg"], "there is no folder /no/such/folder"),
    (
        ["run", "7net-0", "-p", "cse", "--html", "/no/such/folder/r.html"],
        "no folder /no/such/folder",
    ),
    (["diff", "7net-0"], "Missing argument 'OTHER'"),
    (["prune", "7net-0"], "prune needs -o OUT"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--keep", "0"], "in (0, 1], got 0"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--keep", "1.5"], "in (0, 1], got 1.5"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--keep", "nan"], "in (0, 1], got nan"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--keep", "half"], "'half' is not a valid float"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--to", "64xo"], "'64xo' is not of the form 64x1o"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--keep", "0.5", "--to", "8x0e"], "keep and to"),
    (
        ["prune", "7net-0", "-o", "{tmp}/o.pth", "--budget", "watts=5%"],
        "flops=P% or latency=P%",
    ),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--budget", "params=0%"], "(0, 100]"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--budget", "params=50"], "percent sign"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--budget", "params=x%"], "percent sign"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--criterion", "luck"], "'luck' is not one of"),
    (["prune", "7net-0", "-o", "{tmp}/o.pth", "--data", "{tmp}/no.xyz"], "no.xyz does not exist"),
    (["prune", "7net-0", "-o", "/no/such/folder/o.pth"], "there is no folder /no/such/folder"),
    (["prune", "7net-0", "-o", "{tmp}"], "it is a folder"),
    (["run", "7net-0", "-p", "scor"], "did you mean score"),
    (["run", "7net-0", "-p", "select{keep=x}"], "pass select, option keep"),
    (["run", "7net-0", "-p", "slice"], "slice needs '"),
    (["run", "7net-0", "-p", "{tmp}/no.yaml"], "cannot read the recipe"),
    (["run", "{tmp}/no.irp", "-p", "cse", "--print-after"], "'--print-after' requires an argument"),
    (["rerun", "{tmp}/no.json"], "no.json: No such file or directory"),
    (["rerun", "x.json", "--seed", "3"], "rerun takes --seed from the recipe; leave it out"),
    (["bisect", "7net-0"], "Missing option '-p'"),
    (["bisect", "7net-0", "-p", "slice"], "slice needs '"),
    (["reduce", "7net-0", "-p", "cse"], "Missing option '-o'"),
    (["reduce", "7net-0", "-p", "cse", "-o", "{tmp}"], "it is a folder"),
    (["verify", "7net-0", "--data", "{tmp}"], "is a folder; name a file"),
    (["evaluate", "7net-0"], "Missing option '--data'"),
    (["verify", "7net-0", "--device", "cuda:99"], "--device cuda:99 cannot be used"),
    *(
        ([*args, "--device", "cuda"], f"error: {what} on the CPU, got --device cuda; leave it out")
        for args, what in (
            (["show", "x"], "show without --scores reads"),
            (["diff", "x", "y"], "diff compares"),
            (["profile", "x"], "profile measures"),
            (["export", "x", "-o", "{tmp}/o"], "export computes"),
            (["prune", "x", "-o", "{tmp}/o"], "passes run"),
            (["optimize", "x", "-o", "{tmp}/o"], "passes run"),
            (["run", "x", "-p", "cse"], "passes run"),
            (["bisect", "x", "-p", "cse"], "passes run"),
            (["reduce", "x", "-p", "cse", "-o", "{tmp}/o"], "passes run"),
            (["bench", "models", "x"], "bench models runs"),
            (["generate", "x", "-o", "{tmp}/o.xyz"], "generate without melts runs"),
            (["demo", "-o", "{tmp}/demo"], "demo runs"),
        )
    ),
    (["show", "7net-0", "--dtype", "float16"], "'float16' is not one of"),
    (["show", "7net-0", "--seed", "-1"], "-1 is not in the range"),
]


@pytest.mark.parametrize(("args", "part"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_usage_errors(
    args: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [a.replace("{tmp}", str(tmp_path)) for a in args]
    code, out, err = call(capsys, *filled)
    assert (code, out) == (2, ""), err
    assert is_one_line_error(err), err
    assert part in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad\n value"), 2),
        (ModelFileError("bad file"), 3),
        (CheckFailed("too large"), 1),
        (FileNotFoundError(2, "No such file or directory", "gone.xyz"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("\x1b[1moops\x1b[0m\nmore"), 70),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    got, out, err = call(capsys, "passes")
    assert (got, out) == (code, "")
    assert is_one_line_error(err)
    assert "\x1b" not in err
    got, out, err = call(capsys, "passes", "--json")
    assert got == code
    assert json.loads(out) == {"error": err.removeprefix("error: ").strip(), "exit_code": code}


def test_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRPRUNE_TRACEBACK", "1")
    _, _, err = call(capsys, "run", "7net-0", "-p", "scor")
    assert "Traceback" in err


def test_passes_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "passes", "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    rows = {row["name"]: row for row in answer["passes"]}
    assert {"score", "select", "slice", "rewrite-tp", "verify", "export"} <= set(rows)
    assert [name for name, row in rows.items() if "error" in row] == []
    keep = {o["name"]: o for o in rows["select"]["options"]}["keep"]
    assert "number" in keep["type"]
    assert answer["seed"] == 0
    assert "irprune" in answer["versions"]


def test_ops_lists_traits_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "ops", "--json")
    assert code == 0
    rows = json.loads(out)["ops"]
    assert any("e3nn.o3._linear.Linear" in row["targets"] for row in rows)
    assert all(row["trait"].startswith(("exact", "approximate(")) for row in rows)


def test_json_holds_what_json_can_hold() -> None:
    import numpy as np

    value = {
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "array": np.arange(2),
        "path": Path("a"),
        "flag": np.bool_(True),
        "set": frozenset({"x"}),
    }
    assert common.plain(value) == {
        "nan": None,
        "inf": None,
        "array": [0, 1],
        "path": "a",
        "flag": True,
        "set": ["x"],
    }


def test_progress_in_logs_is_sparse(capsys: pytest.CaptureFixture[str]) -> None:
    lines = common._Lines("job", every=1000)
    for i in range(50):
        lines("score", i, 50)
    lines("slice", 0)
    assert capsys.readouterr().err == "job: score 0/50\njob: slice\n"
