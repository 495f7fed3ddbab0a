"""The import rules of the design, read from the source: who may know whom.

- the core (irprune/) imports no pass and no kernel: these register themselves;
- only irprune/families/<family> imports a family's package (mace, sevenn), and nothing else does;
- passes/ and kernels/ import only public modules and public names of irprune;
- the parts that the command line needs for ``--help`` and ``passes`` import no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAMILY_PACKAGES = frozenset({"mace", "sevenn", "fairchem"})
TORCH_FREE = (
    "api.py",
    "atomistic.py",
    "verification/checks.py",
    "errors.py",
    "files.py",
    "irreps.py",
    "options.py",
    "passbase.py",
    "passmanager.py",
    "pipeline.py",
    "verification/tolerances.py",
    "versions.py",
)
HEAVY = frozenset({"torch", "e3nn", "mace", "sevenn"})


class Import(NamedTuple):
    """One imported module, with the name taken from it (or ''), and whether at module level."""

    module: str
    name: str
    line: int
    top: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import of a file, also lazy ones and ``import_module`` of a constant."""
    tree = ast.parse(source)
    lazy: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            lazy |= {id(n) for n in ast.walk(node) if n is not node}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            lazy |= {id(n) for child in node.body for n in ast.walk(child)}
    for node in ast.walk(tree):
        top = id(node) not in lazy
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno, top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(base, alias.name, node.lineno, top)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield Import(str(first.value), "", node.lineno, top)


def files(folder: str, package: str) -> list[tuple[Path, list[Import]]]:
    out = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).parts[:-1]
        out.append((path, list(imports(path.read_text(), ".".join([package, *parts])))))
    return out


def is_in(i: Import, package: str) -> bool:
    full = f"{i.module}.{i.name}" if i.name else i.module
    return any(m == package or m.startswith(package + ".") for m in (i.module, full))


def complaint(path: Path, i: Import, why: str) -> str:
    return f"{path.relative_to(ROOT)}:{i.line} imports {i.module} {i.name}: {why}"


def core_breaks(path: Path, found: list[Import]) -> list[str]:
    relative = path.relative_to(ROOT / "irprune").parts
    owns_family = (
        relative[0] == "families"
        and relative[-1] not in ("base.py",)
        and relative
        != (
            "families",
            "__init__.py",
        )
    )
    out = []
    for i in found:
        for part in ("irprune.passes", "irprune.kernels", "passes", "kernels"):
            if is_in(i, part):
                out.append(complaint(path, i, "irprune does not know its passes and kernels"))
        if i.module.split(".")[0] in FAMILY_PACKAGES and not owns_family:
            out.append(complaint(path, i, "only irprune/families/<family> knows this package"))
    return out


def plugin_breaks(path: Path, found: list[Import]) -> list[str]:
    out = []
    for i in found:
        root = i.module.split(".")[0]
        if root in FAMILY_PACKAGES:
            out.append(complaint(path, i, "only irprune/families/<family> knows this package"))
        own = is_in(i, "irprune.passes") or is_in(i, "irprune.kernels")
        private = any(p.startswith("_") and p != "__future__" for p in i.module.split("."))
        if root == "irprune" and not own and (private or i.name.startswith("_")):
            out.append(complaint(path, i, "private to irprune"))
    return out


def test_core_knows_neither_passes_nor_kernels_nor_families() -> None:
    found = files("irprune", "irprune")
    assert len(found) > 20
    assert [c for path, imported in found for c in core_breaks(path, imported)] == []


@pytest.mark.parametrize("folder", ["passes", "kernels"])
def test_passes_and_kernels_use_public_names_only(folder: str) -> None:
    found = files(folder, f"irprune.{folder}")
    assert [c for path, imported in found for c in plugin_breaks(path, imported)] == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_light_modules_do_not_import_torch(name: str) -> None:
    path = ROOT / "irprune" / name
    top = [i for i in imports(path.read_text(), "irprune") if i.top]
    assert [i for i in top if i.module.split(".")[0] in HEAVY] == []


@pytest.mark.parametrize("folder", ["irprune/cli", "irprune/report"])
def test_light_folders_do_not_import_torch_at_module_level(folder: str) -> None:
    bad = [
        complaint(path, i, "import it where it is used, so that `irprune --help` is quick")
        for path, imported in files(folder, folder.replace("/", "."))
        for i in imported
        if i.top and i.module.split(".")[0] in HEAVY
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from irprune.passes import score", 1),
        ("from irprune import kernels", 1),
        ("def f():\n    import irprune.passes.score", 1),
        ("import sevenn.util", 1),
        ("def f():\n    from mace import tools", 1),
        ("import importlib\nimportlib.import_module('mace.modules')", 1),
        ("from irprune.passmanager import Pass\nimport maceration", 0),
    ],
)
def test_the_rule_for_the_core_finds_offenders(source: str, expected: int) -> None:
    found = list(imports(source, "irprune"))
    assert len(core_breaks(ROOT / "irprune" / "x.py", found)) >= expected
    assert bool(core_breaks(ROOT / "irprune" / "x.py", found)) == bool(expected)
    family = ROOT / "irprune" / "families" / "mace.py"
    assert bool(core_breaks(family, found)) == (bool(expected) and "irprune" in source)


@pytest.mark.parametrize(
    ("source", "ok"),
    [
        ("from irprune.blocks import BlockSpace", True),
        ("from irprune.passes._shared import helper", True),
        ("from irprune.blocks import _private", False),
        ("from irprune._hidden import thing", False),
        ("def f():\n    import irprune.ops._fold", False),
        ("import sevenn", False),
    ],
)
def test_the_rule_for_passes_finds_offenders(source: str, ok: bool) -> None:
    found = list(imports(source, "irprune.passes"))
    assert (plugin_breaks(ROOT / "passes" / "x.py", found) == []) is ok


def test_lazy_and_type_checking_imports_are_told_from_eager_ones() -> None:
    source = (
        "from typing import TYPE_CHECKING\nimport torch\n"
        "if TYPE_CHECKING:\n    import e3nn\ndef f():\n    import sevenn\n"
    )
    assert {i.module: i.top for i in imports(source, "irprune")} == {
        "typing": True,
        "torch": True,
        "e3nn": False,
        "sevenn": False,
    }
