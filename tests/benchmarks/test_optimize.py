"""The benchmark of optimized models: its table, its variants, and what is committed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.files import read_json, write_json
from benchmarks.optimize.report import plot, table
from benchmarks.optimize.run import give_up, merged, processes, without_wrong
from benchmarks.optimize.variants import BY_NAME, VARIANTS, file_of, of_family
from benchmarks.problems import CRYSTALS, MODELS
from benchmarks.table import write_into
from benchmarks.timing import quartiles

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "optimize" / "optimized_vs_stock.json"


def toy():
    ratios = {"median": 0.1, "q1": 0.09, "q3": 0.12, "ratios": [0.09, 0.1, 0.12]}
    result = {
        "model": "7net-0", "atoms": 64, "threads": 1, "base": "stock", "repeats": 3,
        "edges_per_atom": 50.0, "ratios": {"optimized": ratios}, "forces": {"optimized": 4e-6},
        "rounding": {"optimized": 2e-6, "stock": 3e-6},
        "over_estimate": {"optimized": 2.5},
        "failed": {"stock, own compile": "RuntimeError: no"},
        "compiled_over_optimized": 0.9,
        "peak": {"stock": {"loaded_mib": 100, "peak_mib": 1300}},
    }  # fmt: skip
    facts = {"params": 100, "params_optimized": 90, "flops_ratio": 0.5, "checks": []}
    return {
        "models": {"7net-0": {"crystal": "MgO", "keep": {"1": facts}}},
        "results": [result],
        "machine": {"cpu": "some CPU", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01",
        "commit": {"hash": "0123456789ab", "dirty": False},
    }


def test_table():
    text = table(toy())
    assert "| 7net-0 | 64 | 1 | stock | 0.100 [0.090, 0.120] |" in text
    assert "| 7net-0 | 64 | 1,200 MiB |  |  |" in text
    assert "| 7net-0 | 1 | 100 | 90 | 0.50 |" in text
    assert "| 7net-0 | 64 | 1 | 2.50 |" in text
    assert "- 7net-0, stock, own compile failed (64 atoms, 1 thread): `RuntimeError: no`" in text
    assert "Compiled over optimized, both in one process: 0.90 to 0.90 (1 row)." in text
    assert (
        "Forces in float32 differ from those of stock by at most 4.0e-06 of the largest force, and from"
        " those of the optimized model in float64 by 2.0e-06 (stock: 3.0e-06), where"
        " stock was measured."
    ) in text


def test_plot(tmp_path):
    plot(toy(), tmp_path / "picture")
    assert (tmp_path / "picture.svg").stat().st_size > 1000


def test_variants_have_files_of_their_own():
    model = MODELS["mace-mp-0-small"]
    assert len(BY_NAME) == len(VARIANTS)
    ours = {file_of(model, v, Path("x")) for v in VARIANTS if v.kind == "irprune"}
    assert ours == {
        f"x/mace-mp-0-small{end}.irp" for end in ("", "-keep-0.5", "-tables", "-compiled")
    }
    assert {v.name for v in of_family("mace")} - {v.name for v in of_family("sevennet")} == {
        "stock, float64", "stock, own compile",
    }  # fmt: skip


def test_compiled_variants_have_processes_of_their_own():
    found = processes(Namespace(compile=True), MODELS["mace-mp-0-small"])
    names = {end: [v.name for v in variants] for end, variants in found.items()}
    assert names.pop("") == [v.name for v in VARIANTS if not v.compile]
    assert names == {
        "-stock-own-compile": ["stock", "stock, own compile"],
        "-optimized-compiled": ["stock", "optimized", "optimized, compiled"],
    }
    assert list(processes(Namespace(compile=False), MODELS["7net-0"])) == [""]


def part_of(apart=1e-6, compiled=0.08, commit="a"):
    names = ("optimized", "stock, keep 0.5", "optimized, compiled")
    return {
        "ratios": {n: {"median": m} for n, m in zip(names, (0.1, 0.5, compiled), strict=True)},
        "forces": dict(zip(names, (2e-6, 0.9, apart), strict=True)),
        "failed": {},
        "commit": commit,
    }


def test_parts_of_compiled_variants_are_merged(tmp_path):
    main = part_of()
    for key in ("ratios", "forces"):
        del main[key]["optimized, compiled"]
    write_json(tmp_path / "x.json", main)
    write_json(tmp_path / "x-compiled.json", part_of(3e-6, commit="b"))
    late = [{"output": str(tmp_path / "x-late.json")}]
    give_up(late, BY_NAME["stock, own compile"], 10)
    part = merged(tmp_path, "x", ["-compiled", "-late", "-missing"])
    assert part["ratios"] == {**main["ratios"], "optimized, compiled": {"median": 0.08}}
    assert part["forces"] == {**main["forces"], "optimized, compiled": 3e-6}
    assert part["compiled_over_optimized"] == 0.8
    assert part["commits"]["optimized, compiled"] == "b"
    assert part["failed"] == {"stock, own compile": "not done after 10 minutes"}
    assert not merged(tmp_path, "y", ["-own"])


def test_a_variant_with_other_forces_has_no_time():
    """A pruned model is another function; everything else has to be the same one."""
    part = without_wrong(part_of(apart=0.515))
    assert list(part["ratios"]) == ["optimized", "stock, keep 0.5"]
    assert part["failed"] == {"optimized, compiled": "forces are off by 0.52 of the largest"}
    assert part["forces"]["optimized, compiled"] == 0.515
    assert without_wrong(part_of()) == part_of()


@pytest.mark.parametrize("atoms", [8, 1000])
def test_supercells(atoms):
    assert len(CRYSTALS["MgO"].supercell(atoms)) == atoms


def test_the_committed_result():
    result = read_json(COMMITTED)
    wanted = {(m, n, t) for m in result["models"] for n in (64, 216) for t in (1, 2)}
    assert {"7net-0", "mace-mp-0-small"} <= set(result["models"])
    assert wanted <= {(r["model"], r["atoms"], r["threads"]) for r in result["results"]}
    for r in result["results"]:
        for found in r["ratios"].values():
            assert len(found["ratios"]) == r["repeats"]
            got = (found["q1"], found["median"], found["q3"])
            assert got == pytest.approx(quartiles(found["ratios"]), abs=2e-4)
        exact = [n for n in r["ratios"] if n in r["forces"] and not BY_NAME[n].pruned]
        assert all(r["forces"][n] <= 2e-5 for n in exact), (r["model"], r["atoms"], r["threads"])
        if r["base"] == "stock":
            assert r["forces"]["optimized"] <= 5e-6
    for model in result["models"].values():
        assert all(c["ok"] for keep in model["keep"].values() for c in keep["checks"])


def test_the_readme_shows_it():
    readme = (ROOT / "benchmarks" / "optimize" / "README.md").read_text(encoding="utf-8")
    assert write_into(readme, table(read_json(COMMITTED))) == readme
    assert all(COMMITTED.with_suffix(s).is_file() for s in (".svg", ".png"))
