"""An experiment as a file: data, arms, budgets and seeds. Needs neither torch nor irprune."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

NUMBERED = re.compile(r". \d+(\.\d+)?$")
SHIFTS = ("", "all", "test")
STARTS = ("pruned", "scratch", "full", "pruned-raw")


@dataclass(frozen=True)
class Data:
    """Which structures: a file of the shared folder, cut into parts by a seed."""

    file: str
    """Under data/ of the shared folder."""
    test_file: str = ""
    """Test on this file instead of a part of ``file``."""
    train: int = 0
    """Structures to learn from, the held-out ones included."""
    test: int = 0
    valid: float = 0.1
    """Share of ``train`` that picks the best weights and learning rates."""
    group: str = ""
    """Key of info: structures with one value stay on one side."""
    subset: bool = False
    """The file has its own test part (info subset: train…, test…)."""
    elements: tuple[str, ...] = ()
    """Only structures of these elements alone."""
    max_atoms: int = 0
    """Only structures up to this size; 0 takes all."""
    max_force: float = 50.0
    """eV/Å; others are left out of all parts."""
    max_stress: float = 200.0
    """GPa."""
    rattle: float = 0.0
    """Å. Structures without labels: atoms are moved (normal, per coordinate), cells are strained by up
    to 3 %, and the experiment's checkpoint says energies, forces and stress of all parts."""
    shift: str = ""
    """Take the per-element difference of reference energies out of the labels. ``all``: least squares
    on ``train`` against the unpruned model, for all parts; ``test``: on structures of ``test_file``
    that are not tested, against each model that is tested, for the test part alone."""

    def __post_init__(self) -> None:
        if self.shift not in SHIFTS or (self.shift == "test" and not self.test_file):
            raise ValueError(
                f"data: shift is '', all, or test with a test_file, got {self.shift!r}"
            )


@dataclass(frozen=True)
class Arm:
    """One way to get a model."""

    name: str
    start: str = "pruned"
    """pruned: sliced from the checkpoint; pruned-raw: the same and not trained; scratch: the structure
    of ``pruned`` with new weights; full: the checkpoint as it is."""
    prune: str = ""
    """Pipeline from the checkpoint to the structure."""
    model: str = ""
    """Another checkpoint than the experiment's."""
    teacher: bool = False
    """Learn from the checkpoint instead of labels."""
    lr: tuple[float, ...] = (2e-3,)
    """The best on held-out structures at the first seed is taken for all, for each budget by itself."""
    steps: tuple[int, ...] = ()
    """Budgets, where they are not those of the experiment."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of recover, beside those of the experiment."""

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"arm {self.name}: start is {', '.join(STARTS)}, got {self.start!r}")
        if (self.start != "full") != bool(self.prune):
            raise ValueError(f"arm {self.name}: start {self.start} and prune {self.prune!r}")

    def budgets(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Steps to train, of this arm in an experiment with the budgets ``given``."""
        return (0,) if self.start == "pruned-raw" else self.steps or given


@dataclass(frozen=True)
class Pretraining:
    """A MACE that is trained on the experiment's data first, to have a larger one to prune."""

    hidden: str
    """Irreps of the features between the layers, such as 128x0e+128x1o."""
    steps: int
    lr: float
    correlation: int = 3
    max_ell: int = 3
    cutoff: float = 5.0
    """Å."""
    radial: tuple[int, ...] = (64, 64, 64)


@dataclass(frozen=True)
class Experiment:
    """Arms on one data set, at several budgets and seeds."""

    name: str
    question: str
    model: str
    """A name of benchmarks.problems.MODELS, or any name for what ``pretrain`` makes."""
    data: Data
    arms: tuple[Arm, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of recover, for all arms."""
    pretrain: Pretraining | None = None
    against: str = ""
    """What the number at the end of the arms' names is: pictures show errors against it, not against
    training compute."""

    def __post_init__(self) -> None:
        if self.against:
            for arm in self.arms:
                if not NUMBERED.search(arm.name):
                    raise ValueError(
                        f"against is {self.against!r}, but the name of the arm {arm.name!r} does not"
                        " end with a number"
                    )


def asked(experiment: Experiment, arm: Arm) -> str:
    """Short hash of all that decides what a part of this arm is, but for steps, seed and rate."""
    own = {k: v for k, v in asdict(arm).items() if k not in ("name", "lr", "steps", "settings")}
    settings = {**experiment.settings, **arm.settings}
    made = [asdict(experiment.pretrain)] if experiment.pretrain else []
    return _short([experiment.model, asdict(experiment.data), own, settings, *made])


def made_of(experiment: Experiment) -> str:
    """Short hash of all that decides what the model of ``pretrain`` is."""
    assert experiment.pretrain is not None
    given = [asdict(experiment.pretrain), asdict(experiment.data), dict(experiment.settings)]
    return _short([*given, experiment.seeds[0]])


def _short(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def read(path: Path) -> Experiment:
    """An experiment from YAML.

    Raises:
        ValueError: a field that does not exist or is missing; names it.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["data"] = _made(Data, raw["data"], f"{path.name}: data")
    if raw.get("pretrain"):
        raw["pretrain"] = _made(Pretraining, raw["pretrain"], f"{path.name}: pretrain")
    raw["arms"] = tuple(_made(Arm, a, f"{path.name}: arm") for a in raw["arms"])
    return _made(Experiment, {"name": path.stem, **raw}, path.name)


def _made(cls: type, values: Mapping[str, Any], where: str) -> Any:
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{where}: no such field: {', '.join(unknown)}; there are {sorted(known)}")
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return cls(**plain)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
