"""A not-a-number is never overlooked: neither in a sum of checks, nor in what compares two networks."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from e3nn import o3
from torch import nn

import irprune
from irprune import export
from irprune.profile import kernels
from irprune.slicing import slice_graph
from irprune.testing import CHECKS, checks
from irprune.testing.subject import subject
from irprune.verification import ladder
from irprune.verification.checks import make_check, worse, worst_of
from tests import networks

NAN = math.nan


def test_the_worst_of_some_values() -> None:
    assert worst_of([]) == 0.0
    assert worst_of([1e-12, 3.0, 2.0]) == 3.0
    for values in ([NAN, 1.0], [1.0, NAN], [1.0, NAN, math.inf]):
        assert math.isnan(worst_of(values))
    assert math.isnan(worse(NAN, 1.0))
    assert math.isnan(worse(1.0, NAN))
    assert not make_check("x", NAN, math.inf).ok


@pytest.fixture
def graph(unscripted: None) -> irprune.EquivariantGraph:
    return irprune.trace(networks.RandomNet(("linear", "gate"), 1).double(), networks.INPUTS)


class Broken(nn.Module):
    """Right values first, then one that is not a number."""

    def __init__(self, right: nn.Module, at: int) -> None:
        super().__init__()
        self.right, self.at = right, at

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        values = [self.right(*inputs), torch.ones(2, dtype=torch.float64)]
        values[self.at] = values[self.at] + NAN
        return values


@pytest.mark.parametrize("at", [0, 1])
def test_two_networks_differ_where_one_gives_no_number(
    graph: irprune.EquivariantGraph, at: int
) -> None:
    same = Broken(graph.gm, 1)
    same.forward = lambda *x: [graph.gm(*x), torch.ones(2, dtype=torch.float64)]  # type: ignore[method-assign]
    assert ladder.compare_on_examples(graph, same, same) == 0.0
    assert math.isnan(ladder.compare_on_examples(graph, same, Broken(graph.gm, at)))


@pytest.mark.parametrize("found", [(NAN, 0.0), (0.0, NAN)])
def test_masked_sliced_fails_where_a_difference_is_no_number(
    graph: irprune.EquivariantGraph, monkeypatch: pytest.MonkeyPatch, found: tuple[float, float]
) -> None:
    sliced = slice_graph(graph.replace(keep=networks.random_mask(graph, 0, 0.3)))
    assert ladder.masked_sliced_rung(sliced, None).ok
    answers = iter(found)
    monkeypatch.setattr(ladder, "compare_on_examples", lambda *a: next(answers))
    check = ladder.masked_sliced_rung(sliced, None)
    assert (check.ok, math.isnan(check.value)) == (False, True)


def test_a_file_that_gives_no_number_is_no_reload(
    graph: irprune.EquivariantGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(source: str, arguments: list[str]) -> None:
        _, given, got = arguments
        torch.save(graph.gm(*torch.load(given, weights_only=True)) * NAN, got)

    monkeypatch.setattr(export, "run_script", answer)
    (check,) = export.reload_network(graph, tmp_path / "network.irp")
    assert (check.ok, math.isnan(check.value)) == (False, True)


def test_nothing_to_compare_is_no_agreement(graph: irprune.EquivariantGraph) -> None:
    nothing = nn.Module()
    nothing.forward = lambda *x: []  # type: ignore[assignment,method-assign]
    graph = graph.replace(inputs={})
    assert math.isnan(ladder.compare_on_examples(graph, nothing, nothing))


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("equivariance", "difference"),
        ("pickling", "difference"),
        ("masked-sliced", "compare_on_examples"),
    ],
)
@pytest.mark.parametrize("found", [(NAN, 0.0), (0.0, NAN)])
def test_a_check_of_the_kit_overlooks_no_difference(
    unscripted: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    measured: str,
    found: tuple[float, float],
) -> None:
    tested = subject(lambda rng: (o3.Linear("2x0e+1x1o", "2x0e+1x1o"), {"x": "2x0e+1x1o"}), 0)
    measure, tolerance = CHECKS[name]
    assert measure(tested) <= tolerance
    answers = itertools.chain(found, itertools.repeat(0.0))
    monkeypatch.setattr(checks, measured, lambda *a: next(answers))
    assert math.isnan(measure(tested))


def test_a_kernel_that_gives_no_number_is_wrong() -> None:
    right = [torch.ones(3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)]
    broken = [right[0], torch.tensor([1.0, NAN])]
    assert kernels._difference(right, right) == 0.0
    assert math.isnan(kernels._difference(broken, right))
