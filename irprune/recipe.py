"""The record of a run: what went in, what came out, and on which versions; it can be repeated."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.errors import UsageError
from irprune.versions import versions

if TYPE_CHECKING:
    from irprune.graph import EquivariantGraph

VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """One run of a pipeline. Hashes are SHA-256 of whole files, in hexadecimal."""

    model: str
    """As it was named: a file, or a name of a family."""
    model_file: str
    """The file that it was read from."""
    model_sha256: str
    pipeline: str
    seed: int
    target: str
    dtype: str | None
    data: str | None
    data_sha256: str | None
    output: str | None
    output_sha256: str | None
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    """What sums of floating-point numbers depend on beside versions: threads, and the CPU's
    instructions."""
    recipe_version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """From a file: a recipe, or the JSON of a run, which holds one under ``recipe``.

        Raises:
            UsageError: the file is neither; says what is missing or of another type.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(f"the recipe {path} is not JSON: {error}") from None
        if isinstance(found, dict) and isinstance(found.get("recipe"), dict):
            found = found["recipe"]
        return cls.from_json(found, str(path))

    @classmethod
    def from_json(cls, found: Any, where: str) -> Recipe:
        """Checks keys and types.

        Raises:
            UsageError: as for ``read``.
        """
        advice = "give what irprune run, prune or optimize print with --json"
        if not isinstance(found, dict):
            raise UsageError(f"{where} is no recipe: expected an object; {advice}")
        version = found.get("recipe_version")
        if version != VERSION:
            raise UsageError(
                f"{where} is no recipe of version {VERSION}: recipe_version is {version!r}; {advice}"
            )
        names = [f.name for f in fields(cls)]
        missing = [n for n in names if n not in found]
        if missing:
            raise UsageError(f"{where} is no recipe: it lacks {', '.join(missing)}; {advice}")
        for f in fields(cls):
            value, kind = found[f.name], str(f.type)
            fits = {
                "str": isinstance(value, str),
                "int": isinstance(value, int) and not isinstance(value, bool),
                "str | None": value is None or isinstance(value, str),
                "Mapping[str, str]": isinstance(value, dict)
                and all(isinstance(v, str) for v in value.values()),
            }[kind]
            if not fits:
                raise UsageError(f"{where} is no recipe: {f.name} is {value!r}, expected {kind}")
        return cls(**{n: found[n] for n in names})


def recipe_of(
    model: str,
    graph: EquivariantGraph,
    pipeline: str,
    *,
    seed: int,
    target: str,
    dtype: str | None,
    data: str | None,
    output: str | Path | None,
) -> Recipe:
    """The record of a run that has just ended; hashes its files."""
    file = file_of(model, graph)
    return Recipe(
        model=model,
        model_file=str(file),
        model_sha256=sha256(file),
        pipeline=pipeline,
        seed=seed,
        target=target,
        dtype=dtype,
        data=data,
        data_sha256=None if data is None else sha256(data),
        output=None if output is None else str(output),
        output_sha256=None if output is None else sha256(output),
        versions=versions(),
        machine=machine(),
    )


def file_of(model: str, graph: EquivariantGraph) -> Path:
    """The file that a model was read from, also where it was named.

    Raises:
        UsageError: there is none.
    """
    source = "" if graph.source is None else str(graph.source.path)
    for name in (model, source):
        if name and Path(name).is_file():
            return Path(name)
    raise UsageError(f"cannot record the run: the file of the model {model} is not there any more")


def machine() -> dict[str, str]:
    """Threads of torch, the kind of processor and its vector instructions."""
    import torch

    return {
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "instructions": str(torch.backends.cpu.get_cpu_capability()),
    }


def sha256(path: str | Path) -> str:
    """The hash of a file.

    Raises:
        UsageError: it cannot be read.
    """
    made = hashlib.sha256()
    try:
        with Path(path).open("rb") as handle:
            while part := handle.read(2**20):
                made.update(part)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    return made.hexdigest()


def differences(
    recipe: Recipe, model_file: str | Path, data: str | Path | None
) -> dict[str, tuple[str, str]]:
    """What a run here depends on and is not as recorded: name → (recorded, here)."""
    pairs = {"model": (recipe.model_sha256, sha256(model_file))}
    if recipe.data_sha256 is not None and data is not None:
        pairs["data"] = (recipe.data_sha256, sha256(data))
    for what, then, now in (
        ("version of ", recipe.versions, versions()),
        ("", recipe.machine, machine()),
    ):
        for name in dict.fromkeys([*then, *now]):
            pairs[f"{what}{name}"] = (then.get(name, "none"), now.get(name, "none"))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
