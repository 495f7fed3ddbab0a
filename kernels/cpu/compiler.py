"""Compiles generated C++ into shared libraries, kept on disk under the hash of what went in.

The libraries have a plain C interface, so no header of torch or Python is needed, and a compilation
takes seconds.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from irprune import files
from irprune.errors import IrpruneError

FLAGS = ("-std=c++17", "-O2", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-w")
CANDIDATES = ("c++", "g++", "clang++")


class CompilerError(IrpruneError):
    """No compiler, or one that rejects what was generated."""


def find_compiler() -> str | None:
    """Path of the C++ compiler: ``$CXX`` (options after it are left out), else the first of c++, g++
    and clang++ on the path.
    """
    wanted = shlex.split(os.environ.get("CXX", ""))[:1]
    names = tuple(wanted) or CANDIDATES
    return next((found for n in names if (found := shutil.which(n))), None)


def cache_folder() -> Path:
    """Where libraries are kept (``irprune.files``)."""
    return files.cache_folder("kernels")


@functools.lru_cache(maxsize=1)
def machine_key(compiler: str) -> str:
    """What a library depends on beside its source: the compiler, and what ``native`` means here."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    cpu = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = "".join(
            sorted({x for x in lines if x.startswith(("flags", "Features", "model name"))})
        )
    except OSError:  # elsewhere than on Linux: what platform says has to do
        pass
    return f"{version.stdout}{platform.machine()}{cpu}"


def library(source: str) -> ctypes.CDLL:
    """The compiled library of a source, from the cache where it is there.

    Raises:
        CompilerError: no compiler was found, or it failed; carries the first lines it printed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError(
            f"no C++ compiler found: CXX is {os.environ.get('CXX')!r}, and none of"
            f" {', '.join(CANDIDATES)} is on the path"
        )
    text = "\n".join((source, *FLAGS, machine_key(compiler)))
    path = cache_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    return _loaded(compiler, source, path)


@functools.cache
def _loaded(compiler: str, source: str, path: Path) -> ctypes.CDLL:
    if not path.is_file():
        _compile(compiler, source, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # damaged, or of a machine with another C library: made anew once
        _compile(compiler, source, path)
        return ctypes.CDLL(str(path))


def _compile(compiler: str, source: str, path: Path) -> None:
    """Writes beside and renames, so that two processes may compile the same at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile_in(compiler, source, path)
    except OSError as error:
        raise CompilerError(
            f"kernels cannot be kept in {path.parent} ({error.strerror or error}); set IRPRUNE_CACHE"
            " to a folder that can be written"
        ) from error


def _compile_in(compiler: str, source: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        code, obj, made = (str(Path(folder) / n) for n in ("k.cpp", "k.o", "k.so"))
        Path(code).write_text(source, encoding="utf-8")
        _run([compiler, *FLAGS, "-c", code, "-o", obj])
        # Without -fopenmp here: OpenMP is then the one that torch has loaded, with its threads.
        # A second runtime in the process would have threads of its own, waiting for each other.
        _run([compiler, "-shared", obj, "-o", made])
        try:
            ctypes.CDLL(made)
        except OSError:
            _run([compiler, "-shared", "-fopenmp", obj, "-o", made])
        os.replace(made, path)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = " | ".join(done.stderr.strip().splitlines()[:3])
        raise CompilerError(f"{command[0]} cannot compile a generated kernel: {lines}")
