"""Keyed: what specs have in common. They say themselves as JSON, and are known by a hash of that."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any


class Keyed:
    """Base of frozen values. A dataclass makes a hash of its own, of every number in it at every call:
    each says ``__hash__ = Keyed.__hash__`` instead.
    """

    def to_json(self) -> dict[str, Any]:
        """Everything in the value."""
        raise NotImplementedError

    @cached_property
    def key(self) -> str:
        """A hash of everything in the value: what caches go by."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.key)
