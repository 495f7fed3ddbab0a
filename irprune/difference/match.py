"""Which statement of one listing is which of another.

Inputs, parameters and calls of modules are known by their path, the n-th call of a module by n. Calls
of functions are known by their name; where passes have renumbered them, by their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from typing import Any

from irprune.text.listing import Listing, Statement


def matched(a: Listing, b: Listing) -> dict[str, str]:
    """Names of values of ``a`` → names of the same values of ``b``."""
    found: dict[str, str] = {}
    for key in (_by_path, _by_name):
        left = {k: s for s, k in _keyed(_rest(a, found), key)}
        right = {k: s for s, k in _keyed(_rest(b, found.values()), key)}
        found |= {s.name: right[k].name for k, s in left.items() if k in right}
    ours, theirs = list(_rest(a, found)), list(_rest(b, found.values()))
    blocks = SequenceMatcher(
        a=[_call(s) for s in ours], b=[_call(s) for s in theirs], autojunk=False
    ).get_matching_blocks()
    for block in blocks:
        for i in range(block.size):
            one, other = ours[block.a + i], theirs[block.b + i]
            if one.kind in ("function", "method"):
                found[one.name] = other.name
    return found


def _rest(listing: Listing, known: Iterable[str]) -> Iterable[Statement]:
    seen = set(known)
    return (s for s in listing.statements if s.name not in seen)


def _keyed(
    statements: Iterable[Statement], key: Callable[[Statement], Any]
) -> Iterable[tuple[Statement, Any]]:
    """Statements that have a key, with the number of those before that have the same."""
    seen: Counter[Any] = Counter()
    for s in statements:
        k = key(s)
        if k is not None:
            yield s, (k, seen[k])
            seen[k] += 1


def _by_path(s: Statement) -> tuple[str, ...] | None:
    if s.kind in ("function", "method"):
        return None
    return s.kind, "" if s.kind == "return" else s.target


def _by_name(s: Statement) -> tuple[str, ...] | None:
    return (s.name, *_call(s)) if s.kind in ("function", "method") else None


def _call(s: Statement) -> tuple[str, ...]:
    return s.kind, s.op, s.target
