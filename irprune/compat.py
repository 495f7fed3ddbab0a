"""Loading e3nn 0.4.4 on a torch that loads safely by default."""

from __future__ import annotations

import torch


def prepare_e3nn() -> None:
    """Allows the one type that e3nn 0.4.4 unpickles at import; to be called before that import.

    e3nn reads its Clebsch-Gordan constants with ``torch.load``, which on torch ≥ 2.6 admits only
    listed types, and its file holds a ``slice``. Listing it keeps safe loading on; a global switch
    would turn it off for every file.
    """
    torch.serialization.add_safe_globals([slice])
