"""Operation definitions: one file per op family.

An :class:`~irprune.ops.base.OpDef` tells the compiler what an operation means for irreps: the type
of its result (``infer``), which blocks it ties together (``couple``), where zeros and demand travel
(``nonzero``, ``needed``), how it shrinks (``slice``, with its folds) and what it costs (``cost``).
"""

from irprune.compat import prepare_e3nn

prepare_e3nn()
