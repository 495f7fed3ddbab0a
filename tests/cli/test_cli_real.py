"""The command line on SevenNet-0: answers have the keys that are promised, bad input leaves no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from irprune.cli import main as cli

pytestmark = [pytest.mark.real, pytest.mark.slow]

KEYS = {
    "params",
    "params_before",
    "flops_per_atom",
    "flops_per_atom_before",
    "irreps",
    "tier",
    "checks",
    "seed",
    "versions",
}


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.run(args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def pruned(folder: Path) -> dict[str, Any]:
    """``prune`` by weights alone, once for all tests."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.run(
            [
                "prune",
                "7net-0",
                "-o",
                str(folder / "small.pth"),
                *("--keep", "0.7", "--criterion", "magnitude", "--no-verify", "--json"),
            ]
        )
    assert code == 0
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


@pytest.fixture(scope="module")
def labelled(folder: Path) -> Path:
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms("NaCl", [[0, 0, 0], [2.7, 0.1, 0]], cell=[5.4, 4.1, 4.1], pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=-6.5, forces=np.full((2, 3), 0.1), stress=np.full(6, 0.01)
    )
    write(folder / "labelled.extxyz", atoms)
    return folder / "labelled.extxyz"


def test_prune_answers_with_the_promised_keys(pruned: dict[str, Any], folder: Path) -> None:
    assert set(pruned) >= KEYS | {"passes", "output", "pipeline", "irreps_before"}
    assert pruned["params"] < 0.9 * pruned["params_before"]
    assert pruned["blocks"] <= 0.7 * pruned["blocks_before"]
    assert pruned["flops_per_atom"] < pruned["flops_per_atom_before"]
    assert pruned["tier"] == "native"
    assert Path(pruned["output"]) == folder / "small.pth"
    assert all(set(c) >= {"name", "value", "tolerance", "ok"} for c in pruned["checks"])
    assert any(c["name"].startswith("reload") for c in pruned["checks"])
    assert [p["name"] for p in pruned["passes"]] == ["score", "select", "slice", "rewrite-tp"]


def test_show_reads_what_prune_wrote(
    pruned: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, dot = folder / "show.html", folder / "show.dot"
    code, out, _ = call(
        capsys, "show", str(folder / "small.pth"), "--json", "--html", str(page), "--dot", str(dot)
    )
    assert code == 0
    answer = json.loads(out)
    assert set(answer) >= KEYS
    assert answer["irreps"] == pruned["irreps"]
    assert answer["params"] == pruned["params"]
    assert answer["family"] == "sevennet"
    text = page.read_text()
    for layer in ("embedding", *(f"layer {i}" for i in range(5)), "readout"):
        assert f">{layer}</text>" in text
    assert text.count('<g class="node ') == answer["nodes"]
    assert "->" in dot.read_text()


def test_evaluate_against_labels_and_a_reference(
    pruned: dict[str, Any], folder: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = str(folder / "small.pth")
    code, out, _ = call(
        capsys, "evaluate", small, "--data", str(labelled), "--reference", "7net-0", "--json"
    )
    assert code == 0
    answer = json.loads(out)
    assert set(answer) >= KEYS
    assert answer["compared_with"] == "labels"
    for key in ("energy_mae_ev_per_atom", "force_mae_ev_per_a", "stress_mae_gpa"):
        assert answer[key] > 0
        assert answer["difference"][key] > 0
        assert answer["reference"][key] != answer[key]


def test_verify_passes_and_tells_models_apart(
    pruned: dict[str, Any], folder: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = str(folder / "small.pth")
    code, out, _ = call(
        capsys, "verify", small, "--against", "7net-0", "--data", str(labelled), "--json"
    )
    answer = json.loads(out)
    failed = [c["name"] for c in answer["checks"] if not c["ok"]]
    assert (code, failed, answer["ok"]) == (1, ["agreement"], False)
    assert {"types", "rotation", "forces", "stress"} <= {c["name"] for c in answer["checks"]}


def test_verify_allows_an_optimized_model_its_folds_and_no_other(
    folder: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, plain = str(folder / "fast.irp"), str(folder / "plain.irp")
    assert call(capsys, "optimize", "7net-0", "-o", fast, "--no-verify")[0] == 0
    assert call(capsys, "export", "7net-0", "-o", plain, "--no-verify", "--target", "graph")[0] == 0
    rest = ("--data", str(labelled), "--structures", "1", "--no-reload", "--json")
    for model, against, name, limit in (
        (fast, "7net-0", "agreement-folded", 5e-6),
        (plain, fast, "agreement-folded", 5e-6),
        (plain, "7net-0", "agreement", 1e-9),
    ):
        code, out, _ = call(capsys, "verify", model, "--against", against, *rest)
        (check,) = [c for c in json.loads(out)["checks"] if c["name"].startswith("agreement")]
        assert (code, check["name"], check["tolerance"]) == (0, name, limit)


BAD_DATA = {
    "text": ("garbage", "cannot read structures"),
    "nan": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\n'
        "Na 0 0 0 0 0 nan\n",
        "not finite",
    ),
    "element": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-1.0\nOg 0 0 0\n',
        "element Og is not known",
    ),
    "no labels": (
        '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nNa 0 0 0\n',
        "to compare with",
    ),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, part = BAD_DATA[kind]
    path = tmp_path / "data.extxyz"
    path.write_text(content)
    code, out, err = call(capsys, "evaluate", "7net-0", "--data", str(path))
    assert (code, out) == (2, "")
    assert part in err
    assert err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("content", "part"), [(b"hello", "not a torch"), (b"PK\x03\x04 cut off", "damaged")]
)
def test_bad_model_files(
    content: bytes, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    code, out, err = call(capsys, "prune", str(path), "-o", str(tmp_path / "out.pth"))
    assert (code, out) == (3, "")
    assert part in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_a_pickle_needs_trust(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shared / "checkpoints" / "mace_mp_0_small.model")
    code, out, err = call(capsys, "prune", model, "-o", str(tmp_path / "out.model"))
    assert (code, out) == (3, "")
    assert "--trust-pickle" in err
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_model_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(
        capsys, "prune", "7net-0", "-o", str(tmp_path / "out.pth"), "--to", "256x0e"
    )
    assert code == 2
    assert "256x0e" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(900)
def test_demo_writes_model_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "demo", "-o", str(tmp_path / "demo"), "--steps", "20", "--json")
    assert code == 0
    answer = json.loads(out)
    assert set(answer) >= KEYS
    assert all(c["ok"] for c in answer["checks"])
    assert answer["latency_ratio"] < 1
    before, after = answer["before_recovery"], answer["after_recovery"]
    assert after["force_mae_ev_per_a"] < before["force_mae_ev_per_a"]
    page = (tmp_path / "demo" / "report.html").read_text()
    for part in ("Irreps per layer", "Importance of each block", "Recovery", "Checks", "<svg"):
        assert part in page
    assert Path(answer["output"]).is_file()
