"""The pages of docs/ agree with the code: facts, links, command lines, and examples that run."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest

from irprune import errors
from irprune.api import optimize_pipeline
from irprune.cli import main as cli
from irprune.families.base import Family
from irprune.ops.base import OpDef
from irprune.options import describe, format_value, options_of
from irprune.pipeline import Pipeline
from irprune.verification import tolerances
from tests.pages import SESSIONS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {p.name: p.read_text(encoding="utf-8") for p in sorted(DOCS.glob("*.md"))}
PASSES = {
    e.name: e.load() for e in entry_points(group="irprune.passes") if e.value.startswith("irprune.")
}
COMMON = ("--json", "--seed", "--device", "--dtype", "--trust-pickle", "--help")


def section(page: str, title: str) -> str:
    """The text under a heading of level two or three, up to the next one of its level."""
    found = re.search(
        rf"^(##+) {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGES[page], re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"{page} has no heading {title!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """Cells of all tables in a text; the lines under the headings are left out."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    cells = [[c.strip().replace("\\|", "|") for c in line.split(" | ")] for line in lines]
    return [c for c in cells if not set("".join(c)) <= set("-|")]


def code(text: str) -> str:
    return text.strip().strip("`")


def test_the_index_names_every_page() -> None:
    assert set(PAGES) >= {"index.md", "architecture.md", "passes.md", "exactness.md", "limits.md"}
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["index.md"]))
    assert linked == set(PAGES) - {"index.md"}


# Links


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)}


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_links_resolve(page: str) -> None:
    path = DOCS / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page} links to {target}"


# Passes


def test_every_pass_is_in_the_overview() -> None:
    table = rows(PAGES["passes.md"].partition("\n## ")[0])[1:]
    found = {re.sub(r"\[([\w-]+)\].*", r"\1", name): code(trait) for name, trait, _ in table}
    assert found == {name: cls.trait for name, cls in PASSES.items()}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_documented(name: str) -> None:
    cls, text = PASSES[name], section("passes.md", name)

    def listed(facts: tuple[str, ...]) -> str:
        return ", ".join(f"`{f}`" for f in facts) or "nothing"

    assert text.strip().startswith(
        f"Trait: `{cls.trait}`. Requires: {listed(cls.requires)}. Refuses: {listed(cls.refuses)}."
        f" Provides: {listed(cls.provides)}. Invalidates: {listed(cls.invalidates)}."
    )
    table = [r for r in rows(text) if len(r) == 4][1:]
    assert [(code(o), kind, code(default)) for o, kind, default, _ in table] == [
        (o.name, describe(o.kind), format_value(o.default, o.kind)) for o in options_of(cls)
    ]
    (example,) = re.findall(rf"^    ({name}.*)$", text, re.MULTILINE)
    assert [p.name for p in Pipeline.parse(example).passes] == [name]


# Ops, folds, tolerances, fixed blocks


def builtin_ops() -> dict[str, Any]:
    from irprune.families import register_ops
    from irprune.families.mace import ops  # noqa: F401 - registers them
    from irprune.ops.base import load_builtin_ops, registered_ops

    load_builtin_ops()
    register_ops("mace")
    return {op.name: op for op in registered_ops() if type(op).__module__.startswith("irprune.")}


def test_every_op_and_its_fold_is_documented() -> None:
    table = rows(section("exactness.md", "The fold of every op"))[1:]
    ops = builtin_ops()
    assert sorted(code(r[0]) for r in table) == sorted(ops)
    for name, trait, fold, source in table:
        op = ops[code(name)]
        assert code(trait) == op.trait.value, name
        assert fold.startswith("none") == (op.trait.value == "exact"), name
        assert source


def test_every_pass_and_its_fold_is_documented() -> None:
    text = section("exactness.md", "The fold of every pass")
    table = rows(text)[1:]
    exact = {n: cls.trait for n, cls in PASSES.items() if not cls.trait.startswith("approximate")}
    assert {code(r[0]): code(r[1]) for r in table} == exact
    for name, trait, fold, why in table:
        assert fold.startswith("none") == (code(trait) == "exact"), name
        assert why
    rest = text.rpartition("|")[2].partition(" are approximate")[0]
    assert set(re.findall(r"`([\w-]+)`", rest)) == set(PASSES) - set(exact)


def test_the_pipeline_of_optimize_is_the_one_that_runs() -> None:
    text = section("passes.md", "The exact passes together")
    assert f"    {optimize_pipeline()}\n" in text
    assert str(optimize_pipeline(tabulate=1e-6)).endswith(
        "cse,verify,tabulate-radial,cse,select-kernels,verify"
    )


@pytest.mark.parametrize(
    ("title", "cls"),
    [("Site and OpDef (`irprune/ops/base.py`)", OpDef), ("How a family plugs in", Family)],
)
def test_the_tables_of_methods_name_what_there_is(title: str, cls: type) -> None:
    first = [row[0] for row in rows(section("architecture.md", title))]
    named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    there = {n for n, f in vars(cls).items() if callable(f) and not n.startswith("_")}
    assert named
    assert named <= there
    if cls is Family:
        assert named == there


def test_the_tolerances_are_those_of_the_code() -> None:
    head, *table = rows(section("exactness.md", "Tolerances"))
    assert head[1:] == list(tolerances.PRECISIONS)
    found = {code(r[0]): [float(x) for x in r[1:]] for r in table}
    assert found == {k: list(v.values()) for k, v in tolerances.TOLERANCES.items()}


def test_the_ladder_names_every_check() -> None:
    from irprune.verification.physical import RUNGS

    named = {code(r[0]) for r in rows(section("exactness.md", "The ladder"))[1:]}
    assert named == {
        "types",
        "masked-sliced",
        "claim",
        "compiled",
        "agreement",
        "agreement-folded",
        "reload",
        *RUNGS,
    }
    assert named | {"traced-original"} == {"types", *tolerances.TOLERANCES}


def fixed_reasons() -> set[str]:
    """Every literal that is given to ``Coupler.fixed``, and every ``why`` of an op."""
    found: set[str] = set()
    for path in (ROOT / "irprune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".fixed"):
                found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.Assign) and ast.unparse(member.targets[0]) == "why":
                    assert isinstance(member.value, ast.Constant)
                    found.add(member.value.value)
    return found


def test_every_reason_for_fixed_blocks_is_documented() -> None:
    table = rows(section("limits.md", "Blocks that never go"))[1:]
    assert {r[0] for r in table} == fixed_reasons()


# Command line


def command(verb: str) -> click.Command:
    found = cli.cli.get_command(click.Context(cli.cli), verb)
    assert found is not None
    return found


def documented(table: list[list[str]]) -> dict[str, str]:
    """Option → default, of a table whose first cell lists the names of an option."""
    return {
        n.strip().strip("`"): r[1] for r in table if r[0].startswith("`-") for n in r[0].split(",")
    }


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_option_is_documented(verb: str) -> None:
    found = documented(rows(section("command-line.md", verb)))
    common = documented(rows(section("command-line.md", "Options of every verb")))
    options = [p for p in command(verb).params if isinstance(p, click.Option)]
    names = {n for o in options for n in o.opts}
    assert set(found) == names - set(COMMON)
    assert set(common) == set(COMMON)
    for o in options:
        for name in o.opts:
            text = {**found, **common}[name]
            if o.required:
                assert text == "required", name
            elif o.is_flag:
                assert text == "off", name
            elif isinstance(o.default, (str, int, float)):
                assert text.split(",")[0].split(" ")[0] == str(o.default).split(",")[0], name


def test_every_verb_and_exit_code_is_documented() -> None:
    text = PAGES["command-line.md"].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| \[([\w-]+)\]", text, re.MULTILINE)) == cli.VERBS
    codes = {int(r[0]) for r in rows(section("command-line.md", "Exit codes"))[1:]}
    assert codes == {
        0, errors.EXIT_CHECK, errors.EXIT_USAGE, errors.EXIT_MODEL, cli.EXIT_INTERNAL,
        cli.EXIT_INTERRUPT,
    }  # fmt: skip


def json_keys(verb: str) -> tuple[set[str], set[str]]:
    """(keys, keys in brackets) that the page names for a verb."""
    text = section("command-line.md", verb)
    (listed,) = re.findall(r"^JSON[^:]*: (.*?)(?:\n\n|\Z)", text + "\n\n", re.DOTALL | re.MULTILINE)
    inner = " ".join(re.findall(r"\(([^)]*)\)", listed))
    word = r"`([a-z]\w*)`"
    return set(re.findall(word, re.sub(r"\([^)]*\)", "", listed))), set(re.findall(word, inner))


def payload_keys(file: str, variable: str = "payload") -> set[str]:
    """Constant keys of the dictionaries that a module assigns to a variable, or returns from it."""
    from irprune.cli.results import sizes
    from irprune.debugging.bisect import Bisection
    from irprune.difference import GraphDiff
    from irprune.evaluation.metrics import Metrics
    from irprune.profile.model import Profile
    from irprune.profile.peaks import Peaks
    from irprune.recover.result import TrainResult

    stars = {
        "sizes": set(sizes(_Sizes())),
        "bisection.to_json": set(Bisection("", None, None, None, None, 0).to_json()),
        "compared.to_json": set(GraphDiff(_Sizes(), _Sizes(), (), (), (), (), ()).to_json()),
        "first": {f.name for f in dataclasses.fields(Metrics)},
        "result.to_json": {f.name for f in dataclasses.fields(TrainResult)},
        "found.to_json": set(
            Profile(1, 1, 1, "float32", Peaks(1.0, 1.0), (), 1.0, 1.0, 1.0).to_json()
        ),
    }
    found: set[str] = set()
    tree = ast.parse((ROOT / "irprune" / "cli" / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == variable:
            dicts = [r.value for r in ast.walk(node) if isinstance(r, ast.Return)]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            dicts = [node.value]
        else:
            continue
        for d in (d for d in dicts if isinstance(d, ast.Dict)):
            for key, value in zip(d.keys, d.values, strict=True):
                if isinstance(key, ast.Constant):
                    found.add(key.value)
                else:
                    (names,) = (k for n, k in stars.items() if n in ast.unparse(value))
                    found |= names
    assert found
    return found


class _Sizes:
    params, flops_per_atom, blocks, nodes = 1, 1.0, 1, 1


PAYLOADS = {
    "show": ("show.py", "payload"),
    "diff": ("diff.py", "payload"),
    "rerun": ("rerun.py", "payload"),
    "bisect": ("bisect.py", "payload"),
    "reduce": ("reduce.py", "payload"),
    "prune": ("job.py", "payload"),
    "optimize": ("job.py", "payload"),
    "run": ("job.py", "payload"),
    "profile": ("profile.py", "payload"),
    "evaluate": ("evaluate.py", "payload"),
    "verify": ("verify.py", "payload"),
    "export": ("export.py", "payload"),
    "demo": ("demo_report.py", "payload_of"),
}


@pytest.mark.parametrize("verb", PAYLOADS)
def test_json_keys_are_documented(verb: str) -> None:
    extra = {"report"} if verb == "demo" else set()
    assert json_keys(verb)[0] == payload_keys(*PAYLOADS[verb]) | extra


@pytest.mark.parametrize("verb", ["passes", "ops"])
def test_json_keys_of_lists_are_documented(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    outer, inner = json_keys(verb)
    assert outer == set(found) - {"seed", "versions"}
    entries = found[verb]
    nested = [o for e in entries for o in e.get("options", ())]
    assert inner == {k for e in (*entries, *nested) for k in e}


def test_the_report_of_a_pass_is_documented() -> None:
    from irprune.passmanager import PassReport

    report = PassReport("a", "a", "exact", 0.0, _Sizes(), _Sizes())
    assert json_keys("prune")[1] == set(report.to_json())


def test_the_rows_of_a_profile_are_documented() -> None:
    from irprune.profile.model import Profile
    from irprune.profile.nodes import NodeTime
    from irprune.profile.peaks import Peaks

    node = NodeTime("a", "linear", 1.0, 1.0, 1.0, 1.0, 1.0)
    made = Profile(1, 1, 1, "float32", Peaks(1.0, 1.0), (node,), 1.0, 1.0, 1.0).to_json()
    assert json_keys("profile")[1] == {*made["by_op"][0], *made["nodes"][0]}


LINES = [
    (page, line)
    for page, text in PAGES.items()
    for line in re.findall(r"^    (irprune [a-z].*)$", text, re.MULTILINE)
    if not re.search(r"\b(MODEL|VERB)\b|\[--json\]|\[OPTIONS\]", line)
]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{p}: {x}" for p, x in LINES])
def test_command_lines_parse(page: str, line: str) -> None:
    _, verb, *args = shlex.split(line)
    context = command(verb).make_context(verb, args)
    text = context.params.get("pipeline_text")
    if text and not text.endswith(".yaml"):
        assert Pipeline.parse(text).passes


# Examples

PYTHON = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
QUICK = ("passes.md", "tour.md")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=() if p in QUICK else (pytest.mark.slow,))
        for p, text in PAGES.items()
        if "```python\n" in text and p not in SESSIONS
    ],
)
def test_examples_run(page: str, tmp_path: Path) -> None:
    """All Python of a page, in order, in one process; a text block right after it is what it prints."""
    blocks = PYTHON.findall(PAGES[page])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(source for source, _ in blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.splitlines())
    for line in "".join(text for _, text in blocks).splitlines():
        assert line in printed, f"{page} promises {line!r}, printed is\n{done.stdout}"


@pytest.mark.real
@pytest.mark.slow
def test_the_tour_shows_the_model_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "96")
    assert cli.run(["show", "7net-0"]) == 0
    printed = iter(line.rstrip() for line in capsys.readouterr().out.splitlines())
    (shown,) = re.findall(r"^```text\n(7net-0: .*?)^…\n```", PAGES["tour.md"], re.DOTALL | re.M)
    for line in shown.splitlines():
        assert line in printed, line
