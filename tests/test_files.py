"""Output files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irprune.errors import UsageError
from irprune.files import atomic_path, check_writable


def test_success_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".pth"
        assert temporary.parent.parent == tmp_path
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file_or_of_the_old_one(
    tmp_path: Path, umask: int
) -> None:
    target = tmp_path / "model.irp"
    before = os.umask(umask)
    try:
        for expected in (0o666 & ~umask, 0o640):
            with atomic_path(target) as temporary:
                temporary.touch(0o600)  # as safetensors does
            assert target.stat().st_mode & 0o777 == expected
            target.chmod(0o640)
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "model.pth"
    target.write_text("old")

    def attempt() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        attempt()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        check_writable(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for special in (pipe, Path("/dev/null")):
        with pytest.raises(UsageError) as caught, atomic_path(special):
            pass
        assert str(caught.value) == (
            f"cannot write {special}: it is no regular file but a pipe or a device, which a file would"
            " replace; name a file"
        )
        assert not special.is_file()
    with pytest.raises(UsageError, match=r"there is no folder .*gone"):
        check_writable(tmp_path / "gone" / "x")
