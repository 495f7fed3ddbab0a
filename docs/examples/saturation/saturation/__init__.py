"""A layer for irreps, its op, and a pass."""

import irprune.ops  # noqa: F401 - e3nn 0.4.4 imports on torch >= 2.6 only after this
