"""Shared fixtures, and the rule that continuous integration skips nothing (tests/noskip.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.goldens import Goldens
from tests.noskip import pytest_configure

__all__ = ["pytest_configure"]

# times say nothing on a shared machine
settings.register_profile("irprune", deadline=None)
settings.load_profile("irprune")

# kernels that were never tuned are not surveyed in passing, but where a test says so
os.environ["IRPRUNE_SURVEY"] = "0"

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-goldens", action="store_true", help="write the files under tests/golden again"
    )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Goldens:
    """Compares texts with the files under tests/golden (tests/goldens.py)."""
    regenerate = bool(request.config.getoption("--regenerate-goldens"))
    if regenerate and os.environ.get("CI"):
        raise pytest.UsageError("continuous integration does not write golden files")
    return Goldens(regenerate)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real checkpoints and data: IRPRUNE_SHARED, else ../shared."""
    folder = Path(os.environ.get("IRPRUNE_SHARED", ROOT.parent / "shared"))
    if not (folder / "checkpoints").is_dir():
        pytest.skip(f"no checkpoints under {folder}; set IRPRUNE_SHARED")
    return folder


@pytest.fixture(scope="module")
def unscripted() -> Iterator[None]:
    """e3nn modules made without TorchScript: the same values, built several times faster."""
    from irprune.compat import prepare_e3nn

    prepare_e3nn()
    import e3nn
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_script_fx=False)
    yield
    e3nn.set_optimization_defaults(**before)
    torch.set_num_threads(threads)
