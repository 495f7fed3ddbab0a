"""What runs at every call looks at no values where that would wait for a GPU.

There is no GPU here: ``would_wait`` is made to say that there is one, and a mode refuses every operator
that a host would wait for, while energies and forces are computed on the CPU.
"""

from __future__ import annotations

import pkgutil
import sys

import pytest
import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

import irprune
from irprune import api, edges, functional
from irprune.evaluation.potential import Potential
from irprune.kernelplan import kernel_nodes
from irprune.layers import by_element, elements
from irprune.layers.table import RadialTable
from irprune.specs.table import TableSpec
from tests.families import sevennet_models
from tests.families.mace_models import without_torchscript  # noqa: F401
from tests.families.test_exact_members import built_mace, rattled
from tests.passes import toy

pytestmark = pytest.mark.usefixtures("unscripted", "without_torchscript")

LOOKS = {
    "_local_scalar_dense", "item", "nonzero", "bincount", "_unique", "_unique2", "unique_dim",
    "unique_consecutive", "masked_select", "is_nonzero", "equal", "argwhere", "histc",
    "_linalg_det", "linalg_inv_ex", "linalg_lu_factor_ex", "_linalg_solve_ex", "_linalg_eigh",
    "_linalg_svd", "linalg_qr", "linalg_cholesky_ex",
}  # fmt: skip
"""Operators of aten whose result, or its size, the host has to know, and those of linear algebra: calls
of a library that a CUDA graph cannot hold.
"""
GATHERS = {"index", "index_put", "index_put_", "_index_put_impl_", "repeat_interleave"}
"""Those that need to know it where a mask, or a number of repeats, says the size."""


class LookError(Exception):
    """An operator looked at values."""


class NoLooks(TorchDispatchMode):
    """Refuses what waits, inside the operators of irprune too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        space, name = func._schema.name.split("::")
        if space == "irprune":
            with self:
                return OPDEFS[f"irprune::{name}"]._init_fn(*args, **(kwargs or {}))
        indices = args[1] if name in GATHERS and len(args) > 1 else ()
        masks = (
            [i for i in indices if torch.is_tensor(i)] if isinstance(indices, (list, tuple)) else []
        )
        by_mask = any(i.dtype in (torch.bool, torch.uint8) for i in masks)
        by_count = name == "repeat_interleave" and func._overloadname == "Tensor"
        if name in LOOKS or by_mask or (by_count and (kwargs or {}).get("output_size") is None):
            raise LookError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def on_gpu(monkeypatch):
    """Every module that asks is told that its tensors are on a GPU."""
    names = [m.name for m in pkgutil.walk_packages(irprune.__path__, "irprune.")]
    asked = [sys.modules[n] for n in names if n in sys.modules]
    asked = [m for m in asked if hasattr(m, "would_wait") and m.__name__ != "irprune.waiting"]
    names = {"irprune.edges", elements.__name__, by_element.__name__, "irprune.specs.table"}
    assert {m.__name__ for m in asked} >= names
    for module in asked:
        monkeypatch.setattr(module, "would_wait", lambda t: True)


def lowered(graph):
    """With pairs of edges that are said to be complete; all by the reference."""
    graph = graph.replace(gm=graph.module(torch.float64))
    pipeline = api.EXACT.format(specialize="") + ",share-pairs{complete=true},lay-out"
    made = api.run(pipeline, graph)
    assert "complete=True" in str(made)
    for _, module in kernel_nodes(made.gm):
        module.backend = "reference"
    return made


def forces(graph, batch):
    potential = Potential(graph.gm, graph.atomistic, graph.atomistic.any_head())
    return potential.evaluate(batch, stress=True)


GRAPHS = {
    "toy": (toy.graph, lambda graph: toy.frames()),
    "mace": (lambda: built_mace("single"), rattled),
    "sevennet": (lambda: sevennet_models.small("parity-nequip-bias").graph, rattled),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_lowered_graph(name, on_gpu, monkeypatch):
    """Energies, forces and stress, edge lists and linear maps by element included."""
    make, structures = GRAPHS[name]
    graph = lowered(make())
    potential = Potential(graph.gm, graph.atomistic, graph.atomistic.any_head())
    batch = potential.collate(structures(graph)[:1])
    with NoLooks():
        found = forces(graph, batch)
    monkeypatch.undo()
    wanted = forces(graph, batch)
    for a, b in ((found.energy, wanted.energy), (found.forces, wanted.forces)):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    if name == "mace":  # on the CPU the same graph looks at the elements
        assert "element-linear" in str(graph)
        with pytest.raises(LookError, match="waits for the device"), NoLooks():
            forces(graph, batch)


def test_the_mode_can_fail():
    x = torch.arange(4.0)
    index = torch.tensor([0, 1])
    looks = [
        lambda: float(x.max()),
        lambda: x[x > 1],
        lambda: torch.bincount(index),
        lambda: bool((x > 1).all()),
        lambda: torch.repeat_interleave(x[:2], index),
        lambda: torch.nn.functional.one_hot(index),
        lambda: x.nonzero(),
        lambda: torch.linalg.det(torch.eye(3)),
        lambda: torch.linalg.inv(torch.eye(3)),
        lambda: torch.linalg.solve(torch.eye(3), torch.eye(3)),
    ]
    for look in looks:
        with pytest.raises(LookError), NoLooks():
            look()
    with NoLooks():
        x[index].sum()


def test_edge_lists(on_gpu):
    """Pairs of edges wait where they are counted, and not where they are said to be complete."""
    g = torch.Generator().manual_seed(0)
    for n, count in ((5, 17), (3, 0), (1, 4)):
        sender, receiver = torch.randint(0, n, (2, count), generator=g)
        row = torch.cat([torch.arange(count), torch.arange(count)])[:count] // 2
        with NoLooks():
            made = [edges.pack(sender, receiver, n, r) for r in (None, row)]
        for found in made:
            lists = edges.unpack(found, n)
            for ends, starts in ((receiver, lists.receiver_ends), (sender, lists.sender_ends)):
                each = torch.bincount(ends, minlength=n).tolist()
                assert (starts[1:] - starts[:-1]).tolist() == each
                assert int(starts[0]) == 0
    ends, vectors = torch.tensor([0, 1]), torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    with pytest.raises(LookError), NoLooks():
        edges.pairs(ends, 1 - ends, vectors)
    with NoLooks():
        assert edges.pairs(ends, 1 - ends, vectors, complete=True)[1].tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="edges without their reverse"), NoLooks():
        edges.pairs(ends, 1 - ends, vectors.abs(), complete=True)


def test_one_hot():
    module = functional.OneHot(4).double()
    index = torch.tensor([3, 0, 1, 1])
    with NoLooks():
        made = module(index)
    assert torch.equal(made, torch.eye(4, dtype=torch.float64)[index])
    with pytest.raises(RuntimeError, match="out of bounds"):
        module(torch.tensor([4]))


def test_distances_outside_of_a_table(on_gpu):
    """They cannot be errors there: their rows are not numbers, and all others are as they were."""
    table = RadialTable(TableSpec(2, 3, ((0.5, 1.0, 2), (1.0, 3.0, 4)))).double()
    table.coefficients.normal_(generator=torch.Generator().manual_seed(0))
    r = torch.tensor([0.4, 0.5, 0.9, 2.2, 3.0, 3.1, torch.nan], dtype=torch.float64)
    r.requires_grad_(True)
    table.backend = "reference"
    with NoLooks():
        made = table(r)
        (slope,) = torch.autograd.grad(made.sum(), r)
    outside = [True, False, False, False, False, True, True]
    assert made.isnan().all(dim=1).tolist() == outside == slope.isnan().tolist()
    assert not made[1:5].isnan().any()


def test_inside_a_table_it_is_the_same(on_gpu, monkeypatch):
    spec = TableSpec(2, 3, ((0.5, 1.0, 2), (1.0, 3.0, 4)))
    g = torch.Generator().manual_seed(0)
    table = torch.randn(1, 6, 4, 2, generator=g, dtype=torch.float64)
    r = torch.tensor([0.5, 0.9, 2.2, 3.0], dtype=torch.float64)
    made = spec.evaluate(r, table)
    monkeypatch.undo()
    assert torch.equal(made, spec.evaluate(r, table))
