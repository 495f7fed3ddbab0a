"""The traced core gives mace's own atomic energies, to the last bit."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from ase.build import bulk, molecule

from irprune import graphfile
from irprune.data.batch import collate
from irprune.families import load_model
from irprune.families.mace import MaceFamily
from irprune.families.mace.load import wrap
from irprune.families.trace import trace_family
from tests.families import mace_models
from tests.families.mace_models import without_torchscript  # noqa: F401 - a fixture

FAMILY = MaceFamily()


@functools.cache
def graph_of(name: str):
    arguments = mace_models.STYLES.get(name) or mace_models.interaction_arguments(name)
    return trace_family(FAMILY, wrap(mace_models.build(**arguments), ""))


def energies(graph, batch):
    return graph.gm(batch.edge_vectors(), batch.species, batch.edge_index, batch.head).detach()


@pytest.mark.parametrize("name", [*mace_models.STYLES, *mace_models.INTERACTIONS])
def test_exact(name):
    graph = graph_of(name)
    assert graph.blocks.barriers == []
    model = graph.source.module
    dtype = next(model.parameters()).dtype
    frames = mace_models.structures()
    heads = graph.atomistic.heads
    batches = [(frames, heads[-1]), (frames[:2], heads[0]), (frames[2:], heads[-1])]
    for chosen, head in batches:
        batch = collate(chosen, graph.atomistic, dtype, head=head)
        want, got = mace_models.node_energies(model, batch), energies(graph, batch)
        if dtype is torch.float64:
            assert torch.equal(want, got)
        else:  # mace adds the last two terms in float64
            assert float((want - got).abs().max()) < 1e-6
    assert batch.n_edges == 0


def test_heads_differ():
    graph = graph_of("heads")
    one, two = (
        energies(graph, collate(mace_models.structures()[:1], graph.atomistic, head=h))
        for h in graph.atomistic.heads
    )
    assert float((one - two).abs().min()) > 1e-3


def test_two_heads_in_one_batch():
    graph = graph_of("heads")
    batch = collate(mace_models.structures()[:2], graph.atomistic, head="dft")
    batch.head[batch.batch == 1] = 1
    assert torch.equal(
        mace_models.node_energies(graph.source.module, batch), energies(graph, batch)
    )


@pytest.mark.parametrize("name", ["omat", "bias", "agnostic", "deep", "last"])
def test_graph_file(name, tmp_path):
    """Written without pickles and read back, every op gives the same numbers."""
    graph = graph_of(name)
    graph.save(str(tmp_path / "m.graph"))
    again = graphfile.load(tmp_path / "m.graph")
    batch = collate(mace_models.structures(), graph.atomistic, head=graph.atomistic.heads[-1])
    assert float((energies(graph, batch) - energies(again, batch)).abs().max()) < 1e-13


def test_params_are_all_counted():
    for name in ("omat", "bias", "deep"):
        graph = graph_of(name)
        assert graph.stats().params == sum(p.numel() for p in graph.source.module.parameters())


def test_labels():
    assert list(graph_of("heads").labels) == [
        "embedding", "layer 1 message", "layer 1 hidden", "layer 2 message", "layer 2 hidden",
    ]  # fmt: skip
    assert graph_of("heads").irreps_per_layer()["layer 1 hidden"] == "6x0e+6x1o"


def check_real(path: Path) -> None:
    graph = load_model(path, trust=True)
    known = graph.atomistic.symbols
    atoms = molecule("CH3CH2OH") if "C" in known else bulk("GeTe", "rocksalt", a=6.0, cubic=True)
    atoms.rattle(0.05, seed=1)
    for frames in ([atoms], [atoms, atoms]):
        batch = collate(frames, graph.atomistic, torch.float64, head=graph.atomistic.heads[0])
        want = mace_models.node_energies(graph.source.module, batch)
        assert torch.equal(want, energies(graph, batch))


@pytest.mark.real
@pytest.mark.parametrize("name", ["mace_mp_0_small", "mace_GeSbTe_L1"])
def test_real(shared, name):
    check_real(shared / "checkpoints" / f"{name}.model")
