"""Where nothing is known of a spec: another interpreter surveys it, or the reason is said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from irprune.kernels.triton.config import configs, default, shallow
from irprune.kernels.tuner import cache, lookup, miss
from irprune.kernels.tuner.architecture import architecture_named
from irprune.kernels.tuner.entry import Entry, Key, key_of
from tests.kernels.specs import polynomial
from tests.kernels.tuner.fakes import candidate, scalars

pytest.importorskip("triton")

H100 = architecture_named("sm_90")
WHERE = "on sm_90 in float32 with about 32 edges per node"


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.TABLES, raising=False)
    monkeypatch.delenv(miss.SWITCH)
    cache._told.clear()
    lookup._lookup.cache_clear()
    yield
    lookup._lookup.cache_clear()


def look(spec):
    return lookup.lookup(spec, torch.float32, H100, 30.0)


@pytest.mark.parametrize(
    ("spec", "legal", "of"),
    [
        (scalars(), 4, " with about 32 edges per node"),
        (polynomial(channels=3, degree=2), 1, ""),
    ],
)
def test_what_is_not_known_is_surveyed_once_and_said(monkeypatch, capsys, spec, legal, of):
    winner = look(spec)
    kept = cache.load(key_of(spec, torch.float32, H100, 30.0))
    assert kept.surveyed(shallow(spec))
    assert kept.winner == winner
    assert winner in configs(spec)
    assert capsys.readouterr().err == (
        f"irprune: no configuration is known for {spec.key} on sm_90 in float32: its {legal} are"
        " compiled, once (IRPRUNE_SURVEY=0 leaves that out)\n"
        f"irprune: no configuration is timed for {spec.key} on sm_90 in float32{of}: the most promising"
        " one by compilation is used (irprune tune on that GPU times it)\n"
    )
    lookup._lookup.cache_clear()
    monkeypatch.setattr(miss, "subprocess", None)  # nobody is asked again
    assert look(spec) == winner
    assert lookup.lookup(spec, torch.float32, H100, 500.0) == winner
    known = miss.survey_apart(spec, torch.float32, H100)
    assert known == kept, "another process has done it in the meantime"


def answering(monkeypatch, answer):
    """Another interpreter that does what ``answer`` does."""
    asked = []

    def run(command, **options):
        asked.append(command)
        return answer()

    stand_in = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(miss, "subprocess", stand_in)  # others ask other programs
    return asked


FOREIGN = Entry(
    Key("spec", "float32", "ir_mul", 1, "sm_90", "3.0.0", "12.9.86", 32),
    (candidate(default(scalars())),),
    complete=True,
).to_json()


def unusable():
    spec = scalars()
    found = tuple(candidate(c, rejected="it spills") for c in shallow(spec))
    return Entry(key_of(spec, torch.float32, H100, 32), found, complete=True).to_json()


def raise_timeout():
    raise subprocess.TimeoutExpired("python", 600)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda: SimpleNamespace(
                returncode=1, stderr="Traceback\nTuneError: all spill\n", stdout=""
            ),
            "the survey failed: TuneError: all spill",
        ),
        (
            lambda: SimpleNamespace(returncode=-9, stderr="", stdout=""),
            "the survey failed: exit code -9",
        ),
        (raise_timeout, "the survey takes more than 600 s"),
        (
            lambda: SimpleNamespace(returncode=0, stderr="", stdout=json.dumps(unusable())),
            "none of its configurations can be used",
        ),
        (
            lambda: SimpleNamespace(returncode=0, stderr="", stdout=""),
            f"{sys.executable} answered what is no entry: JSONDecodeError('Expecting value: line 1"
            " column 1 (char 0)')",
        ),
        (
            lambda: SimpleNamespace(
                returncode=0, stderr="", stdout=f"hello\n{json.dumps(FOREIGN)}\n"
            ),
            f"{sys.executable} has other versions: it answered for {Key.from_json(FOREIGN['key'])}",
        ),
    ],
)
def test_a_survey_that_fails_leaves_the_default_and_says_why(monkeypatch, capsys, answer, reason):
    spec = scalars()
    asked = answering(monkeypatch, answer)
    assert look(spec) == default(spec)
    assert look(spec) == default(spec)
    assert asked == [[sys.executable, "-c", miss.ASK]]
    said = capsys.readouterr().err
    assert said.endswith(
        f"\nirprune: the default configuration is used for {spec.key} {WHERE}: {reason}"
        " (irprune tune)\n"
    )


def test_what_the_other_says_is_said_here(monkeypatch, capsys):
    said = "noise\nirprune: the tuned configurations in x are damaged\nmore noise"
    answering(monkeypatch, lambda: SimpleNamespace(returncode=1, stderr=said, stdout=""))
    look(scalars())
    found = capsys.readouterr().err.splitlines()
    assert found[1] == "irprune: the tuned configurations in x are damaged"
    assert found[2].endswith(": the survey failed: more noise (irprune tune)")


def test_nothing_is_surveyed_where_it_cannot_be_kept(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IRPRUNE_CACHE", str(tmp_path / "file"))
    asked = answering(monkeypatch, lambda: None)
    spec = scalars()
    assert look(spec) == default(spec)
    assert asked == []
    assert f": nothing can be kept in {tmp_path / 'file' / 'tuned'}: " in capsys.readouterr().err


def test_what_another_process_does_is_waited_for(monkeypatch, capsys):
    """In vain here: it never ends."""
    monkeypatch.setattr(miss, "SECONDS", 0.1)
    spec = scalars()
    asked = answering(monkeypatch, lambda: None)
    with miss.alone(key_of(spec, torch.float32, H100, 32), "it"):
        assert look(spec) == default(spec)
    assert asked == []
    assert capsys.readouterr().err == (
        f"irprune: another process compiles the configurations of {spec.key} on sm_90 in float32: it is"
        " waited for\n"
        f"irprune: the default configuration is used for {spec.key} {WHERE}: another process has not"
        " surveyed it in 0.1 s (irprune tune)\n"
    )


def test_a_file_system_without_locks(monkeypatch, capsys):
    def acquire(self, timeout):
        raise NotImplementedError("no flock")

    monkeypatch.setattr(miss.filelock.FileLock, "acquire", acquire)
    spec = scalars()
    assert look(spec) == default(spec)
    assert ": no flock (irprune tune)" in capsys.readouterr().err


def test_an_interpreter_that_is_killed_is_not_waited_for(monkeypatch):
    """Its processes hold the pipes that it answers by, and end with it."""
    monkeypatch.setattr(
        miss, "ASK",
        "import os, signal, threading, time;"
        " from irprune.kernels.tuner.pool import in_processes;"
        " threading.Timer(3, lambda: os.kill(os.getpid(), signal.SIGKILL)).start();"
        " list(in_processes(time.sleep, [(str(i), (60,)) for i in range(2)], 2))",
    )  # fmt: skip
    start = time.perf_counter()
    with pytest.raises(miss.NoSurvey, match="the survey failed: exit code -9"):
        miss.ask(sys.executable, {}, key_of(scalars(), torch.float32, H100, 32))
    assert time.perf_counter() - start < 30


def test_nothing_is_surveyed_in_the_interpreter(monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    look(scalars())
    assert "(TRITON_INTERPRET=1) nothing is compiled (irprune tune)" in capsys.readouterr().err


def test_words_that_are_no_text_do_no_harm(monkeypatch):
    monkeypatch.setattr(miss, "ASK", "import os; os.write(2, b'\\xff'); raise SystemExit(3)")
    with pytest.raises(miss.NoSurvey, match="the survey failed: \ufffd"):
        miss.ask(sys.executable, {}, key_of(scalars(), torch.float32, H100, 32))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is of Python 3.11")
def test_nothing_in_the_folder_that_we_are_in_is_run(monkeypatch, tmp_path):
    """A file of the user's may be called as a module is."""
    for name in ("random", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the user's own')")
    monkeypatch.chdir(tmp_path)
    spec = scalars()
    assert look(spec) in configs(spec)
    assert cache.load(key_of(spec, torch.float32, H100, 32)).surveyed(shallow(spec))


@pytest.mark.parametrize(
    ("executable", "reason"),
    [
        ("/opt/bin/lmp", "/opt/bin/lmp is no Python to survey with"),
        ("", "what runs here is no Python to survey with"),
    ],
)
def test_a_program_that_is_no_python_is_not_started_again(monkeypatch, capsys, executable, reason):
    spec = scalars()
    asked = answering(monkeypatch, lambda: None)
    monkeypatch.setattr(sys, "executable", executable)
    assert look(spec) == default(spec)
    assert asked == []
    assert capsys.readouterr().err == (
        f"irprune: the default configuration is used for {spec.key} {WHERE}: {reason} (irprune tune)\n"
    )
