"""Convolutions of known models by name, whole and pruned, for tuning and timing without a checkpoint.

``mace-medium`` is the shape of a layer; ``mace-medium@0.5`` keeps half of its channels;
``mace-medium@0.5:odd`` one channel less than that in every segment, which is what pruning leaves and
what kernels for multiples of 32 do not like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from irprune.errors import UsageError
from irprune.specs.path import PathSpec

_NAME = re.compile(r"(?P<shape>[a-z0-9-]+)(@(?P<keep>[0-9.]+))?(?P<odd>:odd)?")


@dataclass(frozen=True)
class Shape:
    """The convolution of a hidden layer, in e3nn's spelling of irreps."""

    features: str
    harmonics: str
    results: str
    """Irreps that paths may lead to."""


SHAPES = {
    "sevennet-0": Shape("128x0e+64x1e+32x2e", "0e+1e+2e", "0e+1e+2e"),
    "sevennet-l3i5": Shape("128x0e+64x1e+32x2e+32x3e", "0e+1e+2e+3e", "0e+1e+2e+3e"),
    "mace-small": Shape("128x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "mace-medium": Shape("128x0e+128x1o", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "mace-large": Shape("128x0e+128x1o+128x2e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
}
"""Hidden layers, with all paths that their results allow."""


def spec_of(shape: Shape, channels: Callable[[int], int] = lambda mul: mul) -> PathSpec:
    """The convolution of a shape; ``channels`` says how many of a segment's are left."""
    from irprune.ops.couplings import path_spec

    return path_spec(product(shape, channels))


def product(shape: Shape, channels: Callable[[int], int] = lambda mul: mul) -> Any:
    """The same as an ``o3.TensorProduct`` with weights per row."""
    from e3nn import o3

    features = o3.Irreps([(channels(mul), ir) for mul, ir in o3.Irreps(shape.features)])
    harmonics, wanted = o3.Irreps(shape.harmonics), o3.Irreps(shape.results)
    out: list[Any] = []
    paths: list[Any] = []
    for i, (mul, ir) in enumerate(features):
        for j, (_, other) in enumerate(harmonics):
            for made in ir * other:
                if made in wanted:
                    paths.append((i, j, len(out), "uvu", True))
                    out.append((mul, made))
    return o3.TensorProduct(
        features, harmonics, o3.Irreps(out), paths, shared_weights=False, internal_weights=False
    )


def problem_named(name: str) -> PathSpec:
    """The convolution of a name.

    Raises:
        UsageError: there is none, or the share of channels is not in (0, 1].
    """
    found = _NAME.fullmatch(name)
    if found is None or found["shape"] not in SHAPES:
        raise UsageError(
            f"no kernel problem is called {name!r}; known are {', '.join(SHAPES)}, each with @SHARE of"
            " the channels and :odd after it"
        )
    try:
        keep = float(found["keep"] or 1)
    except ValueError:
        keep = 0.0
    if not 0 < keep <= 1:
        raise UsageError(
            f"{name!r} keeps {found['keep']} of the channels; expected a share in (0, 1]"
        )
    odd = bool(found["odd"])
    return spec_of(SHAPES[found["shape"]], lambda mul: max(1, round(mul * keep) - odd))
