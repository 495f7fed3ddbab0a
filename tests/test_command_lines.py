"""Every command line of the pages runs, with a small model in the place of the one that it names.

``tests/test_docs.py`` parses all of them; here they do their work, page by page, in order. Named models
become a small SevenNet with random weights, trainings take three steps, and files are not loaded again
in a fresh process, which has tests of its own. ``tune`` tries one configuration of each kernel.
What wants a GPU is only parsed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from irprune.cli import main as cli
from irprune.kernels.triton.config import shallow
from irprune.kernels.tuner import stage1
from tests.pages import SESSIONS, blocks
from tests.test_docs import LINES, PAGES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("unscripted"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

GPU = "--device cuda"
CODES = {
    "irprune verify small.pth --against 7net-0 --data test.extxyz --no-reload": 1,
    "irprune prune 7net-0 -o x.pth --to 256x0e": 2,
    # so small a model has no structure within 2 % of this budget
    "irprune prune 7net-0 -o small.pth --budget params=30% --steps 3 --recover 200 --align 8": 2,
    # no pass goes wrong: there is nothing to reduce, and no file
    'irprune reduce 7net-0 -p "cse,fuse-conv,fuse-linear" -o small.irp': 2,
    "irprune verify small.irp -p fuse-linear": 2,
}
"""Exit codes other than 0."""


def lines_of(page: str) -> list[str]:
    """Indented command lines, and those of ``sh`` blocks."""
    fenced = [b.text for b in blocks(PAGES[page]) if b.kind == "sh"]
    found = [line for text in fenced for line in text.splitlines() if line.startswith("irprune ")]
    return [line for p, line in LINES if p == page] + found


@pytest.fixture(scope="module")
def prepared(unscripted: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files that the pages speak of: a model, what came of it, structures with and without labels."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    from tests.families.sevennet_models import build, checkpoint_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sevenn.util import chemical_species_preprocess
    folder = tmp_path_factory.mktemp("prepared")
    symbols = ["O", "Na", "Mg", "Al", "Cl"]
    species = chemical_species_preprocess(symbols)
    model = build(
        lmax=1,
        is_parity=False,
        channel=4,
        num_convolution_layer=1,
        shift=-1.0,
        scale=1.0,
        **species,
    )
    torch.save(checkpoint_of(copy.deepcopy(model[0]), model[1]), folder / "7net.pth")
    frames = [
        Atoms("NaCl", [[0, 0, 0], [2.7, 0.1 * i, 0]], cell=[5.4, 4.1, 4.1], pbc=True)
        for i in range(4)
    ]
    for name in ("train", "test", "mine", "structures"):
        write(folder / f"{name}.extxyz", frames)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(
            atoms, energy=-6.5, forces=np.full((2, 3), 0.1), stress=np.full(6, 0.01)
        )
    write(folder / "labelled.extxyz", frames)
    (folder / "recipe.yaml").write_text("[score: {by: magnitude}, select: {keep: 0.5}, slice]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("irprune.families.reload.reload_check", lambda *_: [])
        for args in (
            "prune 7net.pth -o small.pth --criterion magnitude",
            "optimize 7net.pth -o fast.irp",
        ):
            assert cli.run([*args.split(), "--no-verify"]) == 0
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def arguments(line: str) -> list[str]:
    """Of a command line, with the small model in the place of a named one, and short trainings."""
    _, *args = shlex.split(line.partition(" > ")[0])
    for i, word in enumerate(args):
        if word == "7net-0":
            args[i] = "7net.pth"
        elif args[i - 1] in ("--recover", "--steps") and int(word) > 3:
            args[i] = "3"
    return args


@pytest.mark.parametrize("page", [p for p in PAGES if p not in SESSIONS and lines_of(p)])
def test_command_lines_run(
    page: str, prepared: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in prepared.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("irprune.families.reload.reload_check", lambda *_: [])
    for line in lines_of(page):
        if GPU in line:
            continue
        args = arguments(line)
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            if args[0] == "tune":
                patch.setattr(stage1, "shallow", lambda spec: shallow(spec)[:1])
                patch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.run(args)
        assert code == CODES.get(line, 0), f"{line}\n{out.getvalue()}\n{err.getvalue()}"
        redirected = re.search(r" > (\S+)$", line)
        if redirected:
            (tmp_path / redirected[1]).write_text(out.getvalue(), encoding="utf-8")


def test_every_exception_is_on_a_page() -> None:
    assert set(CODES) <= {line for _, line in LINES}
    assert any(GPU in line for _, line in LINES)
