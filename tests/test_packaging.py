"""What is installed: every package listed, no top-level name but irprune, wheel and editable."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import irprune

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PASSES = PROJECT["project"]["entry-points"]["irprune.passes"]

PROBE = """
import importlib.metadata as m, sys
import irprune, irprune.passes
from irprune.passmanager import pass_names
assert "passes" not in sys.modules and "kernels" not in sys.modules
assert set(pass_names()) >= {names!r}, pass_names()
print(irprune.passes.__path__[0])
"""


def packages_in_tree() -> set[str]:
    found = set()
    for folder, package in (
        ("irprune", "irprune"),
        ("passes", "irprune.passes"),
        ("kernels", "irprune.kernels"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).parts[:-1]
            found.add(".".join([package, *parts]))
    return found


def test_every_package_of_the_tree_is_listed() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(packages_in_tree() - set(listed)) == []
    assert listed == sorted(listed)


def test_no_module_has_the_name_of_a_function_of_irprune() -> None:
    """Its import would put the module in the place of the function."""
    modules = {p.stem for p in (ROOT / "irprune").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert {"graph", "evaluation"} <= modules
    assert sorted(set(irprune.__all__) & {*modules, "passes", "kernels"}) == []


def test_no_package_claims_a_general_name() -> None:
    assert {p.split(".")[0] for p in PROJECT["tool"]["setuptools"]["packages"]} == {"irprune"}


def test_torch_range_admits_2_13_0_and_nothing_newer() -> None:
    from packaging.requirements import Requirement

    (torch,) = (
        r for r in map(Requirement, PROJECT["project"]["dependencies"]) if r.name == "torch"
    )
    assert [
        v in torch.specifier for v in ("2.6.0", "2.13.0", "2.13.0+cpu", "2.13.1", "2.14.0")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_every_pass_file_has_an_entry_point_that_exists() -> None:
    from irprune.passbase import Pass, find_pass

    for name, value in PASSES.items():
        cls = find_pass(name)
        assert issubclass(cls, Pass)
        assert f"{cls.__module__}:{cls.__name__}" == value


def wheel(folder: Path) -> Path:
    """Builds into ``folder`` from a copy, so that the repository stays clean."""
    import shutil

    source = folder / "source"
    keep = ("pyproject.toml", "README.md", "LICENSE", "irprune", "passes", "kernels")
    source.mkdir()
    for name in keep:
        path = ROOT / name
        if path.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(path, source / name, ignore=ignore)
        else:
            shutil.copy(path, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


def probe(site: Path, cwd: Path) -> Path:
    """Imports irprune from ``site`` alone, dependencies from this environment."""
    here = sysconfig.get_paths()["purelib"]
    # -S -E: no site, so that an editable installation of this environment is not seen
    lines = [
        "import sys",
        f"sys.path[:0] = [{str(site)!r}]",
        "import site",
        f"site.addsitedir({str(site)!r})",
        f"sys.path.append({here!r})",
        PROBE.format(names=set(PASSES)),
    ]
    code = "\n".join(lines)
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.slow
def test_wheel_installs_passes_and_kernels_under_irprune(tmp_path: Path) -> None:
    built = wheel(tmp_path)
    with zipfile.ZipFile(built) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        assert tops == {"irprune", f"irprune-{PROJECT['project']['version']}.dist-info"}
        names = set(archive.namelist())
        assert {"irprune/py.typed", "irprune/passmanager.py"} <= names
        assert any(n.startswith("irprune/passes/") for n in names)
        site = tmp_path / "site"
        archive.extractall(site)
    assert probe(site, tmp_path) == site / "irprune" / "passes"


@pytest.mark.slow
def test_editable_install_maps_passes_to_the_repository(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--target", str(site), "-e", str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert probe(site, tmp_path) == ROOT / "passes"
