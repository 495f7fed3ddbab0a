"""A conformance kit for ops: what an OpDef promises, checked on random irreps and masks.

    from irprune.testing import conform, random_irreps

    def made(rng):
        irreps = random_irreps(rng)
        return Saturation(irreps), {"x": irreps}

    def test_saturation():
        conform(made)

``conform`` runs every check of ``CHECKS`` on several seeds and raises CheckFailed with all that fail.
"""

import irprune.ops  # noqa: F401 - prepares e3nn, which the modules below import
from irprune.testing.checks import CHECKS
from irprune.testing.conform import Finding, conform, findings
from irprune.testing.subject import Make, Subject, random_irreps, subject

__all__ = [
    "CHECKS",
    "Finding",
    "Make",
    "Subject",
    "conform",
    "findings",
    "random_irreps",
    "subject",
]
