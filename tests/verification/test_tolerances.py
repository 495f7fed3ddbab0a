from __future__ import annotations

import subprocess
import sys

import pytest

from irprune.errors import UsageError
from irprune.verification.tolerances import PRECISIONS, TOLERANCES, precision, tolerance


def test_every_row_has_every_precision_and_is_frozen() -> None:
    for row in TOLERANCES.values():
        assert set(row) == set(PRECISIONS)
        assert row["float64"] <= row["float64/constants32"] <= max(row["float32"], 1e-5)
    with pytest.raises(TypeError):
        TOLERANCES["rotation"] = {}  # type: ignore[index]


def test_the_invariants_of_the_design() -> None:
    assert tolerance("masked-sliced", "float64") == 1e-10
    assert tolerance("masked-sliced", "float64", "float32") == 1e-10
    assert tolerance("traced-original", "float32") == 0
    assert tolerance("reload", "float32") == 1e-5
    assert tolerance("reload", "float64") == 1e-9


def test_constants_matter_in_float64_only() -> None:
    assert precision("float32", "float32") == "float32"
    assert precision("float64", "float32") == "float64/constants32"
    assert precision("float64", "float64") == precision("float64") == "float64"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no tolerance for 'x'; known are masked-sliced"):
        tolerance("x", "float64")
    with pytest.raises(UsageError, match="bfloat16"):
        tolerance("rotation", "bfloat16")


@pytest.mark.parametrize(
    "module",
    [
        "irprune.verification.tolerances",
        "irprune.verification.checks",
        "irprune.atomistic",
        "irprune.data.frames",
        "irprune.data.neighbours",
        "irprune.data.generate",
    ],
)
def test_importable_without_torch(module: str) -> None:
    code = f"import sys; import {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
