"""Where nothing is known of a spec: the first stage, done once by another interpreter.

A compiler beside a running model would stand in the way of its launches, and processes that it starts
begin with the script that is running. The other interpreter knows neither: it is asked in JSON, keeps
what it finds in the cache, and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from irprune.errors import IrpruneError
from irprune.kernels.triton.config import shallow
from irprune.kernels.tuner import cache
from irprune.kernels.tuner.architecture import Architecture
from irprune.kernels.tuner.entry import Entry
from irprune.specs.path import PathSpec
from irprune.specs.poly import PolySpec
from irprune.tuning import TuneRequest

SWITCH = "IRPRUNE_SURVEY"
"""Variable: ``0`` leaves the survey out."""
SECONDS = 600
SPECS: dict[str, type[PathSpec | PolySpec]] = {"path": PathSpec, "poly": PolySpec}


class NoSurvey(IrpruneError):
    """Nothing was surveyed: the reason."""


def survey_apart(
    spec: PathSpec | PolySpec, dtype: torch.dtype, architecture: Architecture, degree: int
) -> Entry:
    """Compiles the configurations of a spec for an architecture, and says so before.

    Raises:
        NoSurvey: it is switched off, there is no interpreter to ask, it takes too long, or it fails.
    """
    python = interpreter()
    cache.say(
        f"no configuration is known for {spec.key} on {architecture.name}: its"
        f" {len(shallow(spec))} are compiled, once ({SWITCH}=0 leaves that out)"
    )
    asked = {
        "kind": next(k for k, t in SPECS.items() if isinstance(spec, t)),
        "spec": spec.to_json(),
        "dtype": str(dtype).removeprefix("torch."),
        "architecture": architecture.name,
        "degree": degree,
    }
    try:
        done = subprocess.run(
            [python, "-m", __name__],
            input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoSurvey(f"the survey failed: {error}") from error
    if done.returncode != 0:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
        raise NoSurvey(f"the survey failed: {last}")
    return Entry.from_json(json.loads(done.stdout.splitlines()[-1]))


def interpreter() -> str:
    """The Python that runs here.

    Raises:
        NoSurvey: it is switched off, or a program that is no Python runs it, such as LAMMPS.
    """
    if os.environ.get(SWITCH) == "0":
        raise NoSurvey(f"{SWITCH}=0")
    if not Path(sys.executable or "").name.startswith("python"):
        raise NoSurvey(f"{sys.executable or 'what runs here'} is no Python to survey with")
    return sys.executable


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What the other interpreter does: the entry of what it was asked, as JSON.

    Raises:
        TuneError: no configuration can be used.
    """
    from irprune.devices import processors
    from irprune.kernels.tuner.tune import TritonTuner
    from irprune.passmanager import no_progress

    request = TuneRequest(
        SPECS[asked["kind"]].from_json(asked["spec"]),
        asked["dtype"], asked["architecture"], asked["degree"], jobs=processors(),
    )  # fmt: skip
    return dict(TritonTuner().tune(request, no_progress))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))) + "\n")
