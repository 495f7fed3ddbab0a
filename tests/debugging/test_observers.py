"""What a pipeline prints and dumps, and the memory and time of its passes."""

from __future__ import annotations

import io
import json

import pytest
import torch

import irprune
from irprune import api
from irprune.cli import main as cli
from irprune.debugging import peak
from irprune.debugging.observers import Dumper, Printer
from irprune.debugging.peak import PeakMemory
from irprune.errors import CheckFailed, UsageError
from irprune.text import parse
from tests.debugging.broken import broken  # noqa: F401
from tests.handmade import trace
from tests.passes.golden_networks import network

pytestmark = pytest.mark.usefixtures("unscripted")


def printed(pipeline, graph, **options):
    stream = io.StringIO()
    made = irprune.run(pipeline, graph, observers=[Printer(**options, stream=stream)])
    return made, stream.getvalue()


def test_before_and_after():
    graph = network("small")
    made, text = printed("cse,fuse-linear", graph, print_before=["cse"], print_after=["all"])
    between = irprune.run("cse", graph)
    assert text == (f"# before cse\n{graph}\n# after cse\n{between}\n# after fuse-linear\n{made}\n")


def test_a_pass_that_is_not_there():
    with pytest.raises(UsageError) as error:
        printed("cse", network("small"), print_after=["slice"])
    assert str(error.value) == (
        "cannot print before or after 'slice': the pipeline has cse (or write all)"
    )


def test_changes():
    _, text = printed("cse,cse", network("small"), print_change=True)
    assert text == (
        "# cse changed 3 lines\n"
        "-%neg_1 : edge[1x0e] = neg(%linalg_norm)\n"
        "-%exp_1 : edge[1x0e] = offset-function(%neg_1) {torch.exp()}\n"
        "+%exp_1 : edge[1x0e] = offset-function(%neg) {torch.exp()}\n"
        "# cse: no change\n"
    )


def test_a_selection_is_a_change():
    _, text = printed("score{by=magnitude},select{keep=0.5}", network("chain"), print_change=True)
    assert "# score{by=magnitude}: no change\n" in text
    assert "+axis a:0e : channel[4x0e]" in text
    assert " keep " in text


def test_dump(tmp_path):
    graph, folder = network("small"), tmp_path / "a" / "b"
    made = irprune.run("cse,fuse-linear", graph, observers=[Dumper(folder)])
    names = ["00-input", "01-cse", "02-fuse-linear"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{n}.{end}" for n in names for end in ("txt", "irp")
    )
    assert str(irprune.load(folder / "02-fuse-linear.irp")) == str(made)
    for name in names:
        listing = parse((folder / f"{name}.txt").read_text())
        assert listing.tensors
        assert str(irprune.load(folder / f"{name}.irp")) == str(listing).partition("\ntensor ")[0]
    with pytest.raises(UsageError, match=r"b: it is not empty; name a new folder$"):
        irprune.run("cse", graph, observers=[Dumper(folder)])


def test_a_barrier_has_no_graph_file(tmp_path):
    graph = trace(lambda self, x: torch.flip(x, (0,)), {"x": "2x0e"})
    stream = io.StringIO()
    irprune.run("cse", graph, observers=[Dumper(tmp_path, stream)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-input.txt", "01-cse.txt"]
    first, _ = stream.getvalue().splitlines()
    assert first.startswith("no graph file 00-input.irp: node flip calls ")


def test_the_step_that_fails_is_on_disk(tmp_path, broken):  # noqa: F811
    with pytest.raises(CheckFailed, match=r"^after pass t-fuse-linear .*claim"):
        irprune.run(
            "t-fuse-linear,cse", network("small"), observers=[Dumper(tmp_path)], verify_each=True
        )
    assert (tmp_path / "01-t-fuse-linear.irp").exists()
    assert not (tmp_path / "02-cse.txt").exists()


# ---- memory

CAN_TELL = PeakMemory().__enter__()._start is not None


def test_memory_of_passes_is_reported():
    _, report = api.run_reported("cse", network("small"))
    (found,) = report.to_json()["passes"]
    assert (found["peak_memory"] is not None) == CAN_TELL
    assert (found["memory_added"] is not None) == CAN_TELL
    if CAN_TELL:
        assert found["peak_memory"] > found["memory_added"] >= 0


@pytest.mark.parametrize("size", [0, 300])
def test_what_is_held_meanwhile_counts(size):
    with PeakMemory() as memory:
        held = torch.ones(size * 2**18)  # MB
        del held
    if CAN_TELL:
        assert size - 5 <= memory.added / 2**20 < size + 60
        assert memory.peak > memory.added


def test_where_the_system_cannot_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "no" / "such")
    with PeakMemory() as memory:
        pass
    assert (memory.peak, memory.added) == (None, None)


# ---- the command line


def test_the_verb(tmp_path, capsys):
    path = str(tmp_path / "m.irp")
    network("small").save(path)
    args = ["run", path, "-p", "cse,fuse-linear", "--print-change", "--dump", str(tmp_path / "d")]
    assert cli.run([*args, "--print-before", "all", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "# before fuse-linear\n" in err
    assert "# cse changed 3 lines\n" in err
    assert len(list((tmp_path / "d").iterdir())) == 6
    assert [p["seconds"] > 0 for p in found["passes"]] == [True, True]
    assert "peak_memory" in found["passes"][0]
    recipe = found["recipe"]
    assert (recipe["pipeline"], recipe["output"], recipe["model"]) == (
        "cse,fuse-linear",
        None,
        path,
    )
    assert cli.run(["run", path, "-p", "cse", "--print-after", "slice"]) == 2
    assert "cannot print before or after 'slice'" in capsys.readouterr().err
    assert cli.run(["run", path, "-p", "cse"]) == 0
    assert "peak MB" in capsys.readouterr().out
