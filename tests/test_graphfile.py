"""The graph file: what goes in comes out, and what a hostile or damaged file can do: nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from e3nn import nn as enn
from e3nn import o3
from safetensors import safe_open
from safetensors.torch import save_file

import irprune
from irprune import graphfile
from irprune.atomistic import Atomistic
from irprune.errors import ModelFileError, UsageError
from irprune.slicing import slice_graph
from tests import networks
from tests.handmade import trace, without

pytestmark = pytest.mark.usefixtures("unscripted")


def small_graph():
    return trace(
        lambda self, x: self.b(torch.tanh(self.a(x)[:, :3])) * self.w[0],
        {"x": "2x0e+1x1o"},
        a=o3.Linear("2x0e+1x1o", "3x0e+1x1o"),
        b=o3.Linear("3x0e", "2x0e"),
        w=torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(1.5))]),
    )


def check_equal(graph, loaded):
    assert {n: s.out for n, s in graph.sites.items()} == {n: s.out for n, s in loaded.sites.items()}
    assert str(loaded) == str(graph)
    assert loaded.groups() == graph.groups()
    for seed in range(2):
        x = graph.example(seed=seed, grow=seed)
        assert torch.equal(loaded.gm(*x), graph.gm(*x))


@pytest.mark.parametrize(
    "kinds",
    [("bias", "uvu-merged", "residual"), ("fctp", "gate", "activation"), ("uvw", "columns", "uuu")],
)
def test_random_networks_round_trip(tmp_path, kinds):
    graph = irprune.trace(networks.RandomNet(kinds, len(kinds[0])).double(), networks.INPUTS)
    graph.save(tmp_path / "net.irprune")
    loaded = graphfile.load(tmp_path / "net.irprune")
    check_equal(graph, loaded)
    state = dict(graph.gm.state_dict())
    assert all(torch.equal(t, state[k]) for k, t in loaded.gm.state_dict().items())


def test_sliced_float32_graph_round_trips(tmp_path):
    """Folded weights, constants of a float32 product, an atomistic part, labels and history."""
    tp = o3.TensorProduct(
        "4x0e+2x1o", "1x0e+1x1o", "4x0e+2x1o+2x1e",
        [(0, 0, 0, "uvu", True), (1, 0, 1, "uvu", True), (1, 1, 2, "uvu", True)],
        shared_weights=False,
    )  # fmt: skip
    graph = trace(
        lambda self, x, y, z: self.c(self.tp(self.a(x), y, self.net(z))),
        {"x": "2x0e+1x1o", "y": "1x0e+1x1o", "z": "3x0e"},
        a=o3.Linear("2x0e+1x1o", "4x0e+2x1o"),
        tp=tp,
        net=enn.FullyConnectedNet([3, 5, tp.weight_numel], torch.tanh),
        c=o3.Linear(tp.irreps_out, "1x0e+1x1e"),
    )
    graph = graph.replace(gm=graph.gm.float())
    small = slice_graph(without(graph, {"a:0e": [1], "net.hidden0": [0, 2]})).replace(
        atomistic=Atomistic("custom", 4.5, (1, 8), heads=("a", "b"), name="toy"),
        labels={"layer 0": "a"},
        history=("score", "slice"),
        edges_per_atom=12.5,
    )
    small.save(tmp_path / "net.irprune")
    loaded = graphfile.load(tmp_path / "net.irprune")
    for key in ("atomistic", "labels", "history", "edges_per_atom", "inputs"):
        assert getattr(loaded, key) == getattr(small, key)
    assert {p.dtype for p in loaded.gm.parameters()} == {torch.float32}
    x = [t.float() for t in small.example()]
    assert torch.equal(loaded.gm(*x), small.gm(*x))
    assert loaded.irreps_per_layer() == {"layer 0": "3x0e+2x1o"}


def test_writing_leaves_no_other_file_and_needs_no_pickle(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    import pickle

    for owner, name in (
        (torch, "load"), (torch, "save"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    graph = small_graph()
    graph.save(tmp_path / "net.irprune")
    assert [p.name for p in tmp_path.iterdir()] == ["net.irprune"]
    check_equal(graph, graphfile.load(tmp_path / "net.irprune"))
    assert graphfile.is_graph_file(tmp_path / "net.irprune")


def test_a_barrier_cannot_be_written(tmp_path):
    graph = trace(lambda self, x: torch.flip(x, (0,)), {"x": "2x0e"})
    with pytest.raises(UsageError, match=r"^node flip calls .*flip.*, which has no OpDef$"):
        graph.save(tmp_path / "net.irprune")
    assert list(tmp_path.iterdir()) == []


# ---- damaged files


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.irprune"
    small_graph().save(path)
    return path


def rewritten(path, change):
    """The file with its JSON changed."""
    with safe_open(str(path), framework="pt") as f:
        described = json.loads(f.metadata()[graphfile.KEY])
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    described = change(described) or described
    save_file(tensors, str(path), metadata={graphfile.KEY: json.dumps(described)})
    return path


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        graphfile.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04K\x01.", bytes(200)])
def test_not_a_graph_file(tmp_path, content):
    path = tmp_path / "x.irprune"
    path.write_bytes(content)
    assert not graphfile.is_graph_file(path)
    message = refused(path)
    assert message.startswith("FILE is not a graph file that can be read (SafetensorError: ")
    assert message.endswith("; write one with irprune export --target graph")


def test_missing_file(tmp_path):
    assert "FILE is not a graph file that can be read (FileNotFoundError" in refused(
        tmp_path / "no"
    )


@pytest.mark.parametrize("keep", [9, 500, -1])
def test_truncated(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    assert refused(saved).startswith("FILE is not a graph file that can be read (SafetensorError: ")


def test_other_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, str(path))
    assert not graphfile.is_graph_file(path)
    assert refused(path) == (
        "FILE is not a graph file that can be read (KeyError: 'irprune_graph'); write one with"
        " irprune export --target graph"
    )


def test_metadata_that_is_no_json(tmp_path):
    path = tmp_path / "x"
    save_file({"w": torch.ones(2)}, str(path), metadata={graphfile.KEY: "{"})
    assert refused(path).startswith("FILE is not a graph file that can be read (JSONDecodeError: ")


def set_node(described, which, **changes):
    (node,) = (n for n in described["nodes"] if n["name"] == which)
    node.update(changes)


def set_version(d):
    d["version"] = 2


def drop_version(d):
    del d["version"]


def module_without_tensors(d):
    d["modules"]["c"] = d["modules"]["a"]


def unknown_op(d):
    d["modules"]["a"]["op"] = "subprocess"


def wrong_shape(d):
    d["modules"]["a"]["spec"]["irreps_out"] = "4x0e+1x1o"


def wrong_types(d):
    d["inputs"]["x"]["irreps"] = "2x0e+1x1e"


def no_nodes(d):
    del d["nodes"]


def undefined_operand(d):
    set_node(d, "b", args=[{"node": "later"}])


DAMAGED = {
    "newer version": (
        set_version,
        "FILE has graph version 2, this irprune reads 1; update irprune",
    ),
    "no version": (
        drop_version,
        "FILE has graph version None, this irprune reads 1; update irprune",
    ),
    "a list": (
        lambda d: [d],
        "FILE has graph version None, this irprune reads 1; update irprune",
    ),
    "no nodes": (no_nodes, "FILE is damaged: KeyError: 'nodes'"),
    "undefined operand": (undefined_operand, "FILE is damaged: KeyError: 'later'"),
    "other types": (
        wrong_types,
        "FILE is damaged: IrrepsTypeError: a (module a) expects 2x0e+1x1o as operand 0, but x gives"
        " node[2x0e+1x1e]",
    ),
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged(saved, name):
    change, message = DAMAGED[name]
    assert refused(rewritten(saved, change)) == message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unknown_op, "UsageError: no op named 'subprocess'; registered: "),
        (wrong_shape, "RuntimeError: Error(s) in loading state_dict for Linear: size mismatch for"),
        (
            module_without_tensors,
            "RuntimeError: Error(s) in loading state_dict for Linear: Missing",
        ),
    ],
)
def test_damaged_modules(saved, change, reason):
    assert refused(rewritten(saved, change)).startswith(f"FILE is damaged: {reason}")


# ---- hostile files


MARK = "IRPRUNE_HOSTILE"
EVIL = f"__import__('os').environ.__setitem__('{MARK}', '1')"


def call(target):
    return lambda d: set_node(d, "tanh", target=target)


HOSTILE = {
    "os.system": (call("os.system"), "KeyError: 'function os.system'"),
    "eval": (call("builtins.eval"), "KeyError: 'function builtins.eval'"),
    "torch.load": (call("torch.load"), "KeyError: 'function torch.load'"),
    "method": (
        lambda d: set_node(d, "tanh", op="call_method", target="__reduce__"),
        "KeyError: 'method __reduce__'",
    ),
    "attribute": (
        lambda d: set_node(
            d, "tanh", target="builtins.getattr", args=[{"node": "getitem"}, "__class__"]
        ),
        "ValueError: attribute '__class__' is not one of shape, dtype, device",
    ),
    "dtype": (
        lambda d: set_node(d, "tanh", args=[{"dtype": "load"}]),
        "ValueError: 'load' is not a dtype",
    ),
    "argument": (
        lambda d: set_node(d, "tanh", args=[{"code": "1"}]),
        "ValueError: unknown argument ['code']",
    ),
    "kind of node": (
        lambda d: set_node(d, "tanh", op="call_shell"),
        "ValueError: unknown kind of node 'call_shell'",
    ),
    "code in a placeholder": (
        lambda d: set_node(d, "x", target=f"x={EVIL}"),
        f"ValueError: {f'x={EVIL}'!r} is not a name",
    ),
    "code in a keyword": (
        lambda d: set_node(d, "tanh", kwargs={f"out={EVIL}, a": 1}),
        f"ValueError: {f'out={EVIL}, a'!r} is not a name",
    ),
    "code in a node's name": (
        lambda d: set_node(d, "tanh", name=f"y = {EVIL}"),
        f"ValueError: {f'y = {EVIL}'!r} is not a name",
    ),
    "code in a module's path": (
        lambda d: set_node(d, "a", target=f'a")+{EVIL}+("'),
        f"""ValueError: {f'a")+{EVIL}+("'!r} is not a path of a module or parameter""",
    ),
    "code in a parameter's path": (
        lambda d: set_node(d, "w_0", target=f'w")+{EVIL}+("'),
        f"""ValueError: {f'w")+{EVIL}+("'!r} is not a path of a module or parameter""",
    ),
    "keyword as a name": (
        lambda d: set_node(d, "x", target="import"),
        "ValueError: 'import' is not a name",
    ),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile(saved, name, monkeypatch):
    import os

    monkeypatch.delenv(MARK, raising=False)
    change, message = HOSTILE[name]
    assert refused(rewritten(saved, change)) == f"FILE is damaged: {message}"
    assert MARK not in os.environ


def test_the_crafted_files_differ_only_in_what_is_hostile(saved):
    """Rewriting alone does no harm."""
    graph = graphfile.load(rewritten(saved, lambda d: None))
    assert np.isfinite(graph.gm(*graph.example()).detach().numpy()).all()
