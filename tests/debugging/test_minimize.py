"""Delta debugging on lists: what is found fails, and is 1-minimal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from irprune.debugging.minimize import smallest


@given(st.integers(1, 30), st.sets(st.integers(0, 29), min_size=1, max_size=5))
def test_what_must_stay_is_found(n, needed):
    needed = {x for x in needed if x < n} or {0}
    tried = []

    def fails(part):
        tried.append(part)
        return needed <= set(part)

    assert set(smallest(range(n), fails)) == needed
    assert len(tried) == len(set(tried))
    assert len(tried) <= 4 * n + n * n


@given(st.integers(2, 12), st.data())
def test_one_minimal_whatever_fails(n, data):
    """Any predicate: the part fails, and no part with one item less does."""
    answers = {}

    def fails(part):
        if part not in answers:
            answers[part] = len(part) == n or data.draw(st.booleans())
        return answers[part]

    found = smallest(range(n), fails)
    assert fails(found)
    if len(found) > 1:
        assert not any(fails(found[:i] + found[i + 1 :]) for i in range(len(found)))


def test_nothing_is_needed():
    assert smallest("abc", lambda part: True) == ()
    assert smallest("a", lambda part: bool(part)) == ("a",)
    assert smallest((), lambda part: False) == ()


def test_order_stays():
    assert smallest("abcdef", lambda part: {"b", "e"} <= set(part)) == ("b", "e")
