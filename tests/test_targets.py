"""Names of files that torch would read as something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from irprune.errors import UsageError
from irprune.export import export
from irprune.targets import check_name
from tests.families import sevennet_models

SAID = (
    "cannot write {}: a native file is a pickle, and torch reads what is called .safetensors as"
    " something else; name it .pth or .model, or take the target graph"
)


def test_a_pickle_is_not_called_safetensors():
    with pytest.raises(UsageError) as error:
        check_name(Path("small.irp.safetensors"), "native")
    assert str(error.value) == SAID.format("small.irp.safetensors")
    check_name(Path("small.safetensors"), "graph")
    check_name(Path("small.pth"), "surgery")


def test_an_export_says_so_before_it_writes(unscripted, tmp_path):
    graph, path = sevennet_models.small("even-linear-xplor").graph, tmp_path / "small.safetensors"
    with pytest.raises(UsageError) as error:
        export(graph, path)
    assert str(error.value) == SAID.format(path)
    assert not path.exists()
    export(graph, path, "graph", verify=False)
    assert path.exists()


def test_the_command_line_says_so_before_it_works(unscripted, tmp_path, monkeypatch, capsys):
    from irprune import api
    from irprune.cli import main as cli
    from irprune.cli.common import Session

    graph, path = sevennet_models.small("even-linear-xplor").graph, tmp_path / "small.safetensors"
    monkeypatch.setattr(Session, "load", lambda *a, **k: graph)

    def begun(*given, **options):
        raise UsageError("it has begun")

    monkeypatch.setattr(api, "run_reported", begun)
    assert cli.run(["run", "x.pth", "-p", "eliminate-dead", "-o", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {SAID.format(path)}\n"
    assert cli.run(["run", "x.pth", "-p", "fuse-conv", "-o", str(path)]) == 2
    assert capsys.readouterr().err.endswith("error: it has begun\n")
