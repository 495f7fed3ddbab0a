"""Pass manager: pipeline text, objects and YAML are one thing; requirements; reports; errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irprune import passbase
from irprune.debugging.observers import Printer
from irprune.errors import CheckFailed, PipelineError
from irprune.passmanager import (
    Pass,
    PassContext,
    Pipeline,
    all_passes,
    find_pass,
    register_pass,
    run_pipeline,
)


@dataclass(frozen=True)
class Stats:
    params: int
    flops_per_atom: float | None
    blocks: int
    nodes: int


@dataclass(frozen=True)
class Graph:
    params: int = 100
    facts: frozenset[str] = frozenset()

    def replace(self, **changes: Any) -> Graph:
        return replace(self, **changes)

    def stats(self) -> Stats:
        return Stats(self.params, 2.0 * self.params, self.params // 10, 3)

    def __str__(self) -> str:
        return f"graph with {self.params} parameters"


@dataclass(frozen=True)
class Check:
    name: str
    value: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.value <= self.tolerance


@dataclass(frozen=True)
class Probe(Pass):
    name: ClassVar[str] = "t-probe"
    summary: ClassVar[str] = "all option types"
    trait: ClassVar[str] = "exact"
    text_value: str = "x"
    maybe: str | None = None
    count: int = 3
    ratio: float = 0.5
    maybe_ratio: float | None = None
    flag: bool = False
    names: tuple[str, ...] = ()
    mixed: int | str = 0
    mode: Literal["a", "b"] = "a"

    def run(self, graph: Any, context: PassContext) -> Any:
        return graph


@dataclass(frozen=True)
class Mark(Pass):
    name: ClassVar[str] = "t-mark"
    summary: ClassVar[str] = "provides marks"
    trait: ClassVar[str] = "exact"
    provides: ClassVar[tuple[str, ...]] = ("t-marks",)

    def run(self, graph: Any, context: PassContext) -> Any:
        return graph.replace()


@dataclass(frozen=True)
class Cut(Pass):
    name: ClassVar[str] = "t-cut"
    summary: ClassVar[str] = "removes parameters"
    trait: ClassVar[str] = "approximate(removes things)"
    requires: ClassVar[tuple[str, ...]] = ("t-marks",)
    invalidates: ClassVar[tuple[str, ...]] = ("t-marks",)
    by: int = field(metadata={"help": "how many"})

    def run(self, graph: Any, context: PassContext) -> Any:
        return graph.replace(params=graph.params - self.by)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passbase, "_registered", dict(passbase._registered))
    for cls in (Probe, Mark, Cut):
        register_pass(cls)


def some_probe() -> st.SearchStrategy[Probe]:
    odd = st.text() | st.sampled_from(
        ["none", "true", "1", "1e3", "-inf", "", 'a"b', "a,b", "{x}", "[", "\\", "é\u2028", "a=b"]
    )
    number = st.floats(allow_nan=False)
    return st.builds(
        Probe,
        text_value=odd,
        maybe=st.none() | odd,
        count=st.integers(),
        ratio=number | st.integers(-(2**40), 2**40),
        maybe_ratio=st.none() | number,
        flag=st.booleans(),
        names=st.lists(odd).map(tuple),
        mixed=st.integers() | odd,
        mode=st.sampled_from(["a", "b"]),
    )


@given(st.lists(some_probe() | st.just(Mark()) | st.builds(Cut, by=st.integers()), max_size=4))
def test_text_and_yaml_give_the_same_pipeline_back(passes: list[Pass]) -> None:
    for cls in (Probe, Mark, Cut):
        register_pass(cls)
    pipeline = Pipeline(tuple(passes))
    assert Pipeline.parse(pipeline.text()) == pipeline
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    # equal values of another type would print differently
    assert Pipeline.parse(pipeline.text()).text() == pipeline.text()


def test_text_is_what_a_person_would_write() -> None:
    text = "t-probe{text-value=energy-force,ratio=0.25,names=[a,b]},t-mark,t-cut{by=7}"
    pipeline = Pipeline.parse(text)
    assert pipeline.text() == text
    assert pipeline.passes[0] == Probe(text_value="energy-force", ratio=0.25, names=("a", "b"))
    assert Pipeline.parse(' t-probe { text_value = "a, b" } , t-mark{} ').passes == (
        Probe(text_value="a, b"),
        Mark(),
    )
    assert Pipeline.parse("t-probe{text-value=params=50%}").passes[0] == Probe(
        text_value="params=50%"
    )
    assert Pipeline.parse("") == Pipeline()


def test_yaml_forms(tmp_path: Any) -> None:
    expected = Pipeline((Probe(ratio=1e-3, names=("1", "b")), Mark()))
    as_list = "- t-probe: {ratio: 1e-3, names: ['1', b]}\n- t-mark\n"
    assert Pipeline.from_yaml(as_list) == expected
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(expected.to_yaml())
    assert Pipeline.of(str(recipe)) == expected
    assert Pipeline.of(expected.passes) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("t-prob", ["no pass is called 't-prob'", "did you mean t-probe"]),
        (
            "t-probe{ratoi=1}",
            ["pass t-probe", "no option 'ratoi'", "did you mean ratio", "ratio: number"],
        ),
        (
            "t-probe{ratio=half}",
            ["pass t-probe, option ratio", "expected number", "got 'half'", "mode:"],
        ),
        ("t-probe{count=0.5}", ["option count", "expected whole number", "got '0.5'"]),
        ("t-probe{flag=1}", ["option flag", "expected true or false"]),
        ('t-probe{count="1"}', ["option count", "expected whole number"]),
        ("t-probe{mode=c}", ["option mode", "expected a|b", "got 'c'"]),
        ("t-probe{names=a}", ["option names", "expected list [of text]"]),
        ("t-probe{text-value=[a]}", ["option text-value", "expected text"]),
        ("t-probe{ratio=1,ratio=2}", ["ratio", "twice"]),
        ("t-cut", ["t-cut needs the option by", "t-cut{by=…}"]),
        ("t-probe{ratio=1", ["expected a comma or }", "position 15", "the end"]),
        ("t-probe{ratio}", ["expected = after the option ratio"]),
        ("t-probe{text-value=a b}", ["expected a comma or }", "'b}'"]),
        ("t-probe{text-value=}", ["expected a value"]),
        ('t-probe{text-value="a}', ["double quote"]),
        ("t-mark t-mark", ["a comma or the end", "position 7"]),
        ("t-mark,", ["the name of a pass", "the end"]),
    ],
)
def test_text_errors(text: str, parts: list[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline.parse(text)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not YAML"),
        ("passes: 3", "a recipe is a list"),
        ("other: []", "one key `passes`"),
        ("- {t-mark: {}, t-cut: {}}", "pass names or name: {options}"),
        ("- t-mark: [1]", "options are a mapping"),
        ("- t-probe: {count: true}", "expected whole number"),
        ("- t-probe: {flag: 1}", "expected true or false"),
    ],
)
def test_yaml_errors(text: str, part: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline.from_yaml(text)
    assert part in str(caught.value)


def test_missing_recipe_is_named(tmp_path: Any) -> None:
    with pytest.raises(PipelineError, match=r"cannot read the recipe .*gone\.yaml: No such file"):
        Pipeline.of(str(tmp_path / "gone.yaml"))


def test_a_pipeline_without_a_pass_is_refused(tmp_path: Any) -> None:
    """It would run, and write the model as it was."""
    recipe = tmp_path / "empty.yaml"
    recipe.write_text("")
    for value, what in (
        ("", "'' has none"),
        (str(recipe), f"{str(recipe)!r} has none"),
        (recipe, f"{str(recipe)!r} has none"),
        ([], "the list is empty"),
    ):
        with pytest.raises(PipelineError) as caught:
            Pipeline.of(value)
        assert str(caught.value) == (
            f"a pipeline has at least one pass, but {what}; `irprune passes` lists them"
        )


def test_a_file_that_is_no_recipe_by_its_name_is_told_so(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r5.txt").write_text("- t-mark\n")
    with pytest.raises(PipelineError) as caught:
        Pipeline.of("r5.txt")
    assert str(caught.value).startswith(
        "r5.txt is a file, but the name of a recipe ends in .yaml or .yml; rename it (read as the text"
        " of a pipeline: no pass is called 'r5'"
    )
    (tmp_path / "t-mark").write_text("")
    assert Pipeline.of("t-mark") == Pipeline((Mark(),))


def test_python_values_are_checked_too() -> None:
    with pytest.raises(PipelineError, match="pass t-probe, option count: expected whole number"):
        Pipeline((Probe(count="3"),))  # type: ignore[arg-type]


def test_requirements_name_the_pass_that_provides() -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline.parse("t-cut{by=1},t-mark").check()
    assert str(caught.value) == (
        "t-cut needs 't-marks', which none of the passes before it provides; add one of: t-mark"
    )
    Pipeline.parse("t-mark,t-cut{by=1}").check()
    Pipeline.parse("t-cut{by=1}").check({"t-marks"})
    with pytest.raises(PipelineError, match="which t-cut before it invalidates"):
        Pipeline.parse("t-mark,t-cut{by=1},t-cut{by=1}").check()


def test_requirements_are_checked_before_anything_runs() -> None:
    ran: list[str] = []
    with pytest.raises(PipelineError):
        run_pipeline(
            Pipeline.parse("t-mark,t-cut{by=1},t-cut{by=1}"),
            Graph(),
            on_pass=lambda report: ran.append(report.name),
        )
    assert ran == []


def test_run_reports_what_each_pass_changed(capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[tuple[str, int, int | None]] = []
    context = PassContext(
        progress=lambda label, done, total=None: steps.append((label, done, total))
    )
    start = Graph()
    graph, report = run_pipeline(
        Pipeline.parse("t-mark,t-cut{by=40}"),
        start,
        context,
        observers=[Printer(print_after=["t-cut"])],
    )
    assert start == Graph()
    assert graph == Graph(60, frozenset())
    assert [(p.name, p.trait) for p in report.passes] == [
        ("t-mark", "exact"),
        ("t-cut", "approximate(removes things)"),
    ]
    cut = report.to_json()["passes"][1]
    assert (cut["params_before"], cut["params"]) == (100, 60)
    assert (cut["flops_per_atom_before"], cut["flops_per_atom"]) == (200.0, 120.0)
    assert (cut["blocks_before"], cut["blocks"]) == (10, 6)
    assert cut["seconds"] >= 0
    assert (report.to_json()["params_before"], report.to_json()["params"]) == (100, 60)
    assert steps == [("t-mark", 0, 2), ("t-cut", 1, 2), ("done", 2, 2)]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "# after t-cut{by=40}\ngraph with 60 parameters\n"


def test_facts_follow_the_passes() -> None:
    graph, _ = run_pipeline(Pipeline((Mark(),)), Graph(facts=frozenset({"old"})))
    assert graph.facts == {"old", "t-marks"}


def test_a_pass_that_returns_what_it_was_given_provides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mark, "run", lambda self, graph, context: graph)
    graph, _ = run_pipeline(Pipeline((Mark(),)), Graph(facts=frozenset({"old"})))
    assert graph.facts == {"old"}


def test_verify_each_names_the_pass_that_broke_it() -> None:
    context = PassContext(verify=lambda g: [Check("size", 100 - g.params, 10)])
    pipeline = Pipeline.parse("t-mark,t-cut{by=40}")
    with pytest.raises(CheckFailed, match=r"after pass t-cut\{by=40\} .*size: 40 > 10"):
        run_pipeline(pipeline, Graph(), context, verify_each=True)
    _, report = run_pipeline(Pipeline((Mark(),)), Graph(), context, verify_each=True)
    assert report.to_json()["passes"][0]["checks"] == [
        {"name": "size", "value": 0.0, "tolerance": 10.0, "ok": True}
    ]
    run_pipeline(pipeline, Graph(), context)


def test_names_are_unique() -> None:
    @dataclass(frozen=True)
    class Other(Pass):
        name: ClassVar[str] = "t-mark"
        summary: ClassVar[str] = "another one"
        trait: ClassVar[str] = "exact"

    with pytest.raises(PipelineError, match="two passes have the name 't-mark'"):
        register_pass(Other)


def test_a_name_that_is_installed_cannot_be_registered_again() -> None:
    @dataclass(frozen=True)
    class Other(Pass):
        name: ClassVar[str] = "slice"
        summary: ClassVar[str] = "another one"
        trait: ClassVar[str] = "exact"

    with pytest.raises(PipelineError, match=r"two passes .*irprune\.passes\.slice:Slice and"):
        register_pass(Other)


@pytest.mark.parametrize(
    ("attributes", "frozen", "part"),
    [
        ({"name": "Bad Name"}, True, "lower-case-with-dashes"),
        ({"trait": "harmless"}, True, "none of exact"),
        ({"summary": None}, True, "does not set 'summary'"),
        ({}, False, "frozen dataclass"),
    ],
)
def test_malformed_passes_are_refused(attributes: dict[str, Any], frozen: bool, part: str) -> None:
    values = {"name": "t-new", "summary": "s", "trait": "exact", **attributes}
    cls = dataclass(frozen=frozen)(type("New", (Pass,), values))
    with pytest.raises(PipelineError, match=part):
        register_pass(cls)


def test_without_metadata_the_error_says_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passbase, "entry_points", lambda group: [])
    monkeypatch.setattr(passbase, "_registered", {})
    with pytest.raises(ImportError, match=r"not installed.*pip install"):
        find_pass("score")


def test_a_broken_third_party_pass_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint("t-broken", "no_such_module_here:X", passbase.GROUP)
    monkeypatch.setattr(passbase, "entry_points", lambda group: [broken])
    found = all_passes()
    assert found["t-mark"] is Mark
    assert "cannot be loaded" in str(found["t-broken"])
    with pytest.raises(PipelineError, match="no_such_module_here"):
        find_pass("t-broken")


def test_the_pass_manager_needs_no_torch() -> None:
    code = "import sys, irprune.passmanager; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
