"""The benchmark of profiles: from a measurement to its tables, without a second in either."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
from ase import Atoms

import irprune
from benchmarks.files import read_json, write_json
from benchmarks.profile import worker
from benchmarks.profile.report import table
from benchmarks.profile.run import gather, part_of, result_of, shares
from benchmarks.table import BEGIN, END
from tests.passes import toy

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "benchmarks" / "profile" / "README.md"
COMMITTED = ROOT / "benchmarks" / "results" / "profile" / "profile.json"


def op(name, nodes, forward, backward, peak):
    return {"op": name, "nodes": nodes, "forward": forward, "backward": backward, "flops": 1e6,
            "bytes": 1e6, "share_of_peak": peak}  # fmt: skip


def side(call, *ops):
    inside = sum(o["forward"] + o["backward"] for o in ops)
    return {
        "atoms": 64, "edges": 3456, "threads": 1, "dtype": "float32", "peak_flops": 1e11,
        "peak_bandwidth": 1e10, "seconds_call": call, "seconds_nodes": inside,
        "seconds_outside": call - inside, "seconds_neighbours": 0.1, "by_op": list(ops), "nodes": [],
    }  # fmt: skip


PART = {
    "before": side(
        2.0, op("tensor-product", 5, 0.5, 1.0, 0.021), op("linear", 9, 0.1, 0.1, 0.3),
        op("add", 3, 0.001, 0.002, 0.7), op("mul", 4, 0.002, 0.002, 0.7),
    ),
    "after": side(
        0.1, op("convolution", 5, 0.03, 0.05, 0.125), op("linear", 1, 0.02, 0.01, 0.5),
        op("mul", 1, 0.0001, 0.0001, 0.7),
    ),
    "rounds": [[2.0, 0.1], [2.5, 0.1], [2.0, 0.12]],
}  # fmt: skip

WANTED = """\
**7net-0** on MgO, 64 atoms, 3,456 edges, float32, 1 thread. Time of a call, after / before: **0.050** \
[0.045, 0.055], 3 rounds in turn. Nodes: 21 before, 7 after.

| op | nodes before | after | % of the call before | after | % of peak before | after |
| --- | --- | --- | --- | --- | --- | --- |
| `convolution` |  | 5 |  | 80.0 |  | 12 |
| `tensor-product` | 5 |  | 75.0 |  | 2 |  |
| `linear` | 9 | 1 | 10.0 | 30.0 | 30 | 50 |
| 2 others | 7 | 1 | 0.4 | 0.2 |  |  |
| outside nodes |  |  | 14.6 | -10.2 |  |  |

some CPU, 2 cores; torch 2; 2026-01-01, commit 0123456789."""


def whole(results):
    return {
        "results": results,
        "machine": {"cpu": "some CPU", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01",
        "commit": {"hash": "0123456789ab", "dirty": False},
    }


def test_tables():
    assert table(whole([result_of("7net-0", PART)])) == WANTED


def test_what_is_published_has_no_times():
    text = json.dumps(result_of("7net-0", PART))
    assert not re.search(r"second|peak_flops|peak_bandwidth", text)
    faster = {k: v / 3 if k.startswith("seconds") else v for k, v in PART["before"].items()}
    faster["by_op"] = [{**o, "forward": o["forward"] / 3, "backward": o["backward"] / 3}
                       for o in faster["by_op"]]  # fmt: skip
    assert shares(faster) == shares(PART["before"])


def test_a_measurement_becomes_a_result(tmp_path, monkeypatch):
    options = argparse.Namespace(output=tmp_path, atoms=8, repeats=2, models=("7net-0",))
    path = part_of(options, "7net-0")
    graph = toy.graph()
    fast = irprune.run("fuse-conv,share-pairs", graph)
    job = {"model": "7net-0", "crystal": "MgO", "atoms": 8, "threads": 1, "repeats": 2,
           "output": str(path)}  # fmt: skip

    class Oxygen:
        def supercell(self, atoms):
            return Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])

    monkeypatch.setitem(worker.CRYSTALS, "MgO", Oxygen())
    worker.measure(job, graph, fast)
    part = read_json(path)
    assert len(part["rounds"]) == 2
    result = gather(options, "python -m benchmarks.profile.run")
    assert {"cpu", "cores"} <= set(result["machine"])
    (found,) = result["results"]
    assert found["atoms"] == 2
    assert found["ratio"]["ratios"] == [round(b / a, 4) for a, b in part["rounds"]]
    assert {o["op"] for o in found["after"]["ops"]} == {o["op"] for o in part["after"]["by_op"]}
    for s in ("before", "after"):
        inside = sum(o["forward"] + o["backward"] for o in found[s]["ops"])
        assert inside + found[s]["outside"] == pytest.approx(1.0, abs=1e-3)
    write_json(tmp_path / "result.json", result)
    assert "`convolution`" in table(read_json(tmp_path / "result.json"))


def test_the_readme_shows_the_committed_result():
    text = README.read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    result = read_json(COMMITTED)
    assert shown == ("No result is here yet." if result is None else table(result))
    assert not re.search(r"\d (ms|s|seconds)\b", text)
