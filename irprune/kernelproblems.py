"""Convolutions of known models by name, whole and pruned, for tuning and timing without a checkpoint.

``mace-medium`` is the shape of a layer; ``mace-medium@0.5`` keeps half of its channels;
``mace-medium@0.5:odd`` one channel less than that in every segment, which is what pruning leaves and
what kernels for multiples of 32 do not like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from irprune.errors import UsageError
from irprune.pathspec import PathSpec

_NAME = re.compile(r"(?P<shape>[a-z0-9-]+)(@(?P<keep>[0-9.]+))?(?P<odd>:odd)?")


@dataclass(frozen=True)
class Shape:
    """The convolution of a hidden layer: features, harmonics, and the orders of the result."""

    features: str
    harmonics: str
    lmax: int


SHAPES = {
    "sevennet-0": Shape("128x0e+64x1e+32x2e", "0e+1e+2e", 2),
    "sevennet-l3i5": Shape("128x0e+64x1e+32x2e+32x3e", "0e+1e+2e+3e", 3),
    "mace-small": Shape("128x0e", "0e+1o+2e+3o", 3),
    "mace-medium": Shape("128x0e+128x1o", "0e+1o+2e+3o", 3),
    "mace-large": Shape("128x0e+128x1o+128x2e", "0e+1o+2e+3o", 3),
}
"""Hidden layers with all their paths; MACE's have as result irreps of natural parity only."""


def problem_named(name: str) -> PathSpec:
    """The convolution of a name.

    Raises:
        UsageError: there is none, or the share of channels is not in (0, 1].
    """
    from e3nn import o3

    from irprune.ops.couplings import path_spec

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
    shape = SHAPES[found["shape"]]
    features = o3.Irreps(
        [
            (max(1, round(mul * keep) - bool(found["odd"])), ir)
            for mul, ir in o3.Irreps(shape.features)
        ]
    )
    harmonics = o3.Irreps(shape.harmonics)
    out: list[Any] = []
    paths: list[Any] = []
    natural = found["shape"].startswith("mace")
    for i, (mul, ir) in enumerate(features):
        for j, (_, other) in enumerate(harmonics):
            for made in ir * other:
                if made.l <= shape.lmax and (not natural or made.p == (-1) ** made.l):
                    paths.append((i, j, len(out), "uvu", True))
                    out.append((mul, made))
    return path_spec(
        o3.TensorProduct(
            features, harmonics, o3.Irreps(out), paths,
            shared_weights=False, internal_weights=False,
        )
    )  # fmt: skip
