from __future__ import annotations

import json

import numpy as np
import pytest

from irprune.atomistic import Atomistic, numbers_of
from irprune.errors import DataError, UsageError

WATER = Atomistic("mace", 5.0, (8, 1), heads=("a", "Default"), dtype="float64", name="w")


def test_species_of_follows_the_order_of_atomic_numbers() -> None:
    assert WATER.species_of([1, 8, 1]).tolist() == [1, 0, 1]
    assert WATER.species_of(np.array([], dtype=int)).tolist() == []


def test_unknown_elements_are_named_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"C, Cu is not known to w, which knows H, O"):
        WATER.species_of([1, 6, 29])
    with pytest.raises(DataError, match="Z=999"):
        WATER.species_of([999])
    with pytest.raises(DataError):
        WATER.species_of([-1])
    many = Atomistic("mace", 5.0, tuple(range(1, 90)))
    with pytest.raises(DataError, match=r"89 elements \(H, He, Li, …, Ac\)"):
        many.species_of([94])


def test_json_round_trip() -> None:
    assert Atomistic.from_json(json.loads(json.dumps(WATER.to_json()))) == WATER


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"cutoff": "far"}, "far"),
        ({"cutoff": -1}, "cutoff"),
        ({"atomic_numbers": []}, "atomic_numbers"),
        ({"atomic_numbers": [1, 1]}, "distinct"),
        ({"heads": []}, "heads"),
        ({"dtype": "int8"}, "dtype"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_json_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Atomistic.from_json({**WATER.to_json(), **change})


def test_missing_field_is_named() -> None:
    with pytest.raises(UsageError, match="cutoff"):
        Atomistic.from_json({"family": "mace", "atomic_numbers": [1]})


def test_head_index() -> None:
    assert WATER.head_index("a") == 0
    assert WATER.head_index() == 1
    with pytest.raises(UsageError, match=r"no head 'b'; its heads are a, Default"):
        WATER.head_index("b")
    with pytest.raises(UsageError, match="several heads"):
        Atomistic("mace", 5.0, (1,), heads=("x", "y")).head_index()


def test_numbers_of() -> None:
    assert numbers_of(["H", 8, "Cu"]) == (1, 8, 29)
    with pytest.raises(UsageError, match="Xx"):
        numbers_of(["Xx"])
