"""benchmarks/gpu/report: the page and the pictures of results, and what was aimed at."""

from __future__ import annotations

import json
import re

import pytest
import torch

from benchmarks.gpu import kernels, models, run, stages
from benchmarks.gpu.report.__main__ import main
from benchmarks.gpu.report.figures import Aim, against_whole, aims, best_other, ours, ratio
from tests.benchmarks.fakegpu import fake_gpu


def row(layer, keep, shape="aligned", forward=None, **more):
    times = {"forward": forward or {}}
    others = [t for n, t in times["forward"].items() if not n.startswith("triton")]
    mine = {n: t for n, t in times["forward"].items() if n.startswith("triton")}
    over = {n: min(others) / t for n, t in mine.items()} if others else {}
    made = {
        "best_other_over_triton": {"forward": over}, "layer": layer, "keep": keep, "shape": shape,
        "ns_per_row": times, "errors": {}, "wrong": [],
        "share_of_bandwidth": {n: 0.5 / t for n, t in times["forward"].items()},
        "least_ns_per_row": 0.5, "config": "block=32,warps=1,stages=1,variant=csr", "failed": {},
    }  # fmt: skip
    return {**made, **more}


WHOLE = row("a", 1.0, forward={"triton": 2.0, "triton ir_mul": 1.0, "e3nn": 9.0, "cueq": 1.5})
HALF = row("a", 0.5, forward={"triton ir_mul": 0.6, "e3nn": 5.0, "cueq": 0.9})
ALONE = row("b", 0.5, forward={"triton": 0.6})


def test_ours_is_the_fastest_of_ours_and_the_other_the_fastest_of_others():
    times = WHOLE["ns_per_row"]["forward"]
    assert (ours(times), best_other(times)) == (1.0, ("cueq", 1.5))
    assert (ours({"e3nn": 1.0}), best_other({"triton": 1.0})) == (None, None)
    assert (ratio(WHOLE, "forward"), ratio(HALF, "forward")) == (1.5, pytest.approx(1.5))
    assert ratio(ALONE, "forward") is None
    assert ratio(WHOLE, "backward") is None
    rows = [WHOLE, HALF, ALONE]
    assert against_whole(rows, HALF, "forward") == pytest.approx(2.5)
    assert against_whole(rows, ALONE, "forward") is None


def test_what_was_aimed_at():
    slow = row("a", 0.25, forward={"triton": 1.0, "e3nn": 1.2})
    whole, pruned, share = aims([WHOLE, HALF, ALONE, slow], ["forward"])
    assert (whole.goal, whole.found, whole.reached) == (1.0, (1.5,), 1)
    assert (pruned.goal, pruned.reached) == (1.3, 1)
    assert pruned.found == (pytest.approx(1.5), pytest.approx(1.2))
    assert str(pruned) == (
        "pruned, forward, the best other backend's time over ours: 1.35 in the middle, 1.20 to 1.50;"
        " 1 of 2 reach the aim of 1.3"
    )
    assert share.found == (0.5, 0.5 / 0.6, 0.5 / 0.6, 0.5)
    assert share.reached == 2
    assert str(Aim("x", 2.0, ())) == "x: nothing was measured (aim 2)"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """What a run writes, with rows that were made up."""
    checked = {"spec": "abc", "ok": True}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a fake GPU")
    monkeypatch.setattr(stages, "_compare", lambda *a: dict(checked))
    found = iter([WHOLE, HALF])
    bad = row("a", 0.5, "odd", wrong=["e3nn"], failed={"cueq": "RuntimeError: no"})
    monkeypatch.setattr(kernels, "measure", lambda *a, **k: without_head(next(found, bad)))
    times = {"original": 9.0, "triton": 3.0}
    whole = {
        "atoms": 60, "ok": True, "errors": {"triton": {"forces": 0.0}}, "failed": {},
        "microseconds_per_atom": times, "over_triton": {"original": 3.0},
    }  # fmt: skip
    monkeypatch.setattr(models, "measure", lambda *a, **k: dict(whole))
    monkeypatch.setattr(models, "SIZES", (64, 512))
    captured = {"atoms": 60, "ok": True, "errors": {}, "failed": {}, "triton_over_captured": 1.75}
    monkeypatch.setattr("benchmarks.gpu.captured.measure", lambda *a, **k: dict(captured))
    (tmp_path / "fast.irp").touch()
    args = ["-o", str(tmp_path), "--layers", "mace-small", "--models", str(tmp_path / "fast.irp")]
    assert run.main(args, fake_gpu) == 1, "e3nn was wrong"
    return tmp_path


def without_head(made):
    return {k: v for k, v in made.items() if k not in ("layer", "keep", "shape")}


def test_the_page_has_all_of_it(results):
    made = results / "pages" / "page.md"
    made.parent.mkdir()
    assert main([str(results), "-o", str(made)]) == 0
    text = made.read_text()
    assert text.startswith("# Kernels on ")
    assert "a fake GPU" in text
    assert re.search(r"torch [\d.]+.*; \d{4}-\d\d-\d\d, commit \w+", text)
    assert "kernels were compared with float64" in text
    assert "| mace-small | 1 | all | 1 | 1.5 | cueq | 1.5 |  | 0.5 | 0.5 | block=32" in text
    assert (
        "| mace-small | 0.5 | aligned | 0.6 | 0.9 | cueq | 1.5 | 2.5 | 0.5 | 0.833 | block=32"
        in text
    )
    assert "| fast.irp | 60 | 9 | 3 | 3 |  |" in text
    assert "| fast.irp | 60 | 1.75 |" in text
    assert "- kernels, mace-small 0.5 odd: WRONG; cueq: RuntimeError: no" in text
    assert str(results) not in text, "no path of this machine"
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (made.parent / name).read_text().startswith("<?xml")
        assert (made.parent / name).with_suffix(".png").is_file()
    assert text.count("![") == 2


def test_what_was_not_reached_is_said(results):
    path = results / "kernels.json"
    found = json.loads(path.read_text())
    path.write_text(
        json.dumps({**found, "not_reached": [["mace-large", 0.5, "odd"]], "lost": "it fell"})
    )
    for name in ("correctness", "models", "captured"):
        (results / f"{name}.json").unlink()
    main([str(results), "-o", str(results / "page.md")])
    text = (results / "page.md").read_text()
    assert "- kernels, not reached for want of time: mace-large 0.5 odd" in text
    assert "- kernels: the GPU was lost: it fell" in text
    assert "Whole models" not in text


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), "-o", str(tmp_path / "page.md")])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"{tmp_path} has no result of benchmarks.gpu.run\n"


def test_models_that_are_called_the_same_are_refused(tmp_path, capsys):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "fast.irp").touch()
    given = [str(tmp_path / folder / "fast.irp") for folder in "ab"]
    assert run.main(["-o", str(tmp_path), "--models", *given], fake_gpu) == 2
    assert capsys.readouterr().err == (
        "--models names files that are called the same: fast.irp, fast.irp; rename them\n"
    )
