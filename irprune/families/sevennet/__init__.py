"""SevenNet (``sevenn``): NequIP-like models with one irreps string per layer.

``sevenn`` is imported when a model is loaded or exported, not here.
"""

from irprune.families.sevennet.family import SevenNetFamily

__all__ = ["SevenNetFamily"]
