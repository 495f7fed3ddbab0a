"""The graph file: a graph as JSON and its tensors, in one safetensors file. No code, no pickle.

The JSON lies in the metadata of the file, under ``irprune_graph``. Reading it builds modules only
through registered ops and calls only registered functions, so that a file can name nothing else.
"""

from __future__ import annotations

import json
import keyword
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import fx, nn

from irprune.atomistic import Atomistic
from irprune.compiling.compiled import CompileOptions
from irprune.errors import ModelFileError, UsageError
from irprune.files import atomic_path
from irprune.graph import EquivariantGraph
from irprune.irreps import IrrepsType, Layout, Space
from irprune.kernelplan import KernelPlan, OnKernels
from irprune.ops.base import (
    _BY_CALL,
    Other,
    op_named,
    op_of_class,
)
from irprune.ops.installed import load_ops

KEY = "irprune_graph"
VERSION = 1
KEPT_FACTS = frozenset({"lowered"})
"""What a file remembers of the passes that made its graph."""
ATTRIBUTES = ("shape", "dtype", "device")
"""What ``getattr`` may read of a value in a graph."""


def _function_names() -> dict[str, Any]:
    load_ops()
    return {
        f"{f.__module__}.{getattr(f, '__qualname__', f.__name__)}": f
        for f in _BY_CALL
        if callable(f)
    }


def _methods() -> set[str]:
    return {k.removeprefix("method:") for k in _BY_CALL if isinstance(k, str)}


def _encode(a: Any) -> Any:
    if isinstance(a, fx.Node):
        return {"node": a.name}
    if isinstance(a, slice):
        return {"slice": [_encode(a.start), _encode(a.stop), _encode(a.step)]}
    if isinstance(a, tuple):
        return {"tuple": [_encode(x) for x in a]}
    if isinstance(a, list):
        return [_encode(x) for x in a]
    if isinstance(a, torch.dtype):
        return {"dtype": str(a).removeprefix("torch.")}
    if a is Ellipsis:
        return {"ellipsis": True}
    if a is None or isinstance(a, (bool, int, float, str)):
        return a
    raise UsageError(f"cannot write the argument {a!r} to a graph file")


def _decode(a: Any, nodes: dict[str, fx.Node]) -> Any:
    if isinstance(a, list):
        return [_decode(x, nodes) for x in a]
    if isinstance(a, dict):
        if "node" in a:
            return nodes[a["node"]]
        if "slice" in a:
            return slice(*(_decode(x, nodes) for x in a["slice"]))
        if "tuple" in a:
            return tuple(_decode(x, nodes) for x in a["tuple"])
        if "dtype" in a:
            dtype = getattr(torch, a["dtype"])
            if not isinstance(dtype, torch.dtype):
                raise ValueError(f"{a['dtype']!r} is not a dtype")
            return dtype
        if a != {"ellipsis": True}:
            raise ValueError(f"unknown argument {sorted(a)}")
        return Ellipsis
    return a


def _type_json(t: Any) -> Any:
    if isinstance(t, IrrepsType):
        return {"irreps": t.irreps, "layout": t.layout.value, "space": t.space.value}
    assert isinstance(t, Other)
    return {"kind": t.kind, "rows": t.rows, "value": t.value}


def _type_from(v: Any) -> Any:
    if "irreps" in v:
        return IrrepsType.parse(v["irreps"], Space(v["space"]), Layout(v["layout"]))
    return Other(v["kind"], rows=v["rows"], value=v["value"])


def to_json(graph: EquivariantGraph) -> dict[str, Any]:
    """The graph without its tensors, as plain values.

    Raises:
        UsageError: a node that no registered op can write; names it.
    """
    names = {f: n for n, f in _function_names().items()}
    nodes, modules = [], {}
    for node in graph.gm.graph.nodes:
        target = node.target
        if node.op == "call_function":
            if target not in names:
                raise UsageError(f"node {node.name} calls {target}, which has no OpDef")
            target = names[target]
        elif node.op == "call_method" and target not in _methods():
            raise UsageError(f"node {node.name} calls .{target}(), which has no OpDef")
        elif node.op == "call_module":
            module = graph.gm.get_submodule(str(target))
            op = op_of_class(type(module))
            if op is None:
                raise UsageError(
                    f"node {node.name} (module {target}) is a {type(module).__name__}, which has"
                    " no OpDef: a graph file cannot hold it"
                )
            modules[str(target)] = {"op": op.name, "spec": op.spec(module)}
            if isinstance(module, OnKernels) and module.backend != "auto":
                modules[str(target)]["backend"] = module.backend
        nodes.append(
            {
                "op": node.op,
                "name": node.name,
                "target": str(target),
                "args": _encode(list(node.args)),
                "kwargs": {k: _encode(v) for k, v in node.kwargs.items()},
            }
        )
    return {
        "version": VERSION,
        "inputs": {k: _type_json(t) for k, t in graph.inputs.items()},
        "atomistic": graph.atomistic.to_json() if graph.atomistic else None,
        "labels": dict(graph.labels),
        "edges_per_atom": graph.edges_per_atom,
        "history": list(graph.history),
        "facts": sorted(graph.facts & KEPT_FACTS),
        "compiled": None if graph.compiled is None else graph.compiled.to_json(),
        "kernels": None if graph.kernels is None else graph.kernels.to_json(),
        "modules": modules,
        "nodes": nodes,
    }


def _tensors(graph: EquivariantGraph, modules: dict[str, Any]) -> dict[str, torch.Tensor]:
    """State of every module of the graph, and the parameters and buffers it reads itself."""
    state: dict[str, torch.Tensor] = {}
    for path in modules:
        for name, t in graph.gm.get_submodule(path).state_dict().items():
            state[f"{path}.{name}"] = t.detach().contiguous().clone()
    for node in graph.gm.graph.nodes:
        if node.op == "get_attr":
            value: Any = graph.gm
            for part in str(node.target).split("."):
                value = getattr(value, part)
            assert torch.is_tensor(value)
            state[str(node.target)] = value.detach().contiguous().clone()
    return state


def save(graph: EquivariantGraph, path: str | Path) -> None:
    """Writes a graph file (any extension).

    Raises:
        UsageError: a barrier in the graph; names it.
    """
    described = to_json(graph)
    tensors = _tensors(graph, described["modules"])
    with atomic_path(Path(path)) as temporary:
        save_file(tensors, str(temporary), metadata={KEY: json.dumps(described)})


def is_graph_file(path: str | Path) -> bool:
    """Whether a file is a safetensors file with a graph in it."""
    try:
        with safe_open(str(path), framework="pt") as f:
            return KEY in (f.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load(path: str | Path) -> EquivariantGraph:
    """Reads a graph file.

    Raises:
        ModelFileError: not a graph file, damaged, or of a newer version.
    """
    try:
        with safe_open(str(path), framework="pt") as f:
            described = json.loads((f.metadata() or {})[KEY])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"{path} is not a graph file that can be read ({type(error).__name__}: {error});"
            " write one with irprune export --target graph"
        ) from error
    version = described.get("version") if isinstance(described, dict) else None
    if version != VERSION:
        raise ModelFileError(
            f"{path} has graph version {version}, this irprune reads {VERSION}; update irprune"
        )
    try:
        _check_names(described)
        return _rebuild(described, tensors)
    except ModelFileError:
        raise
    except Exception as error:  # whatever goes wrong here, the file is the cause
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path} is damaged: {type(error).__name__}: {reason}") from error


def _check_names(described: dict[str, Any]) -> None:
    """Refuses what fx could not print as one plain line of Python: it compiles what it prints.

    Raises:
        ValueError: a name that is not an identifier, or an attribute that no op reads.
    """
    paths = [*described["modules"]]
    names = []
    for entry in described["nodes"]:
        names += [entry["name"], *entry["kwargs"]]
        if entry["op"] == "placeholder":
            names.append(entry["target"])
        elif entry["op"] in ("call_module", "get_attr"):
            paths.append(entry["target"])
        elif entry["op"] not in ("call_function", "call_method", "output"):
            raise ValueError(f"unknown kind of node {entry['op']!r}")
        if entry["target"] == "builtins.getattr" and entry["args"][1] not in ATTRIBUTES:
            raise ValueError(
                f"attribute {entry['args'][1]!r} is not one of {', '.join(ATTRIBUTES)}"
            )
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"{name!r} is not a name")
    for path in paths:
        if not all(re.fullmatch(r"\w+", part, re.ASCII) for part in path.split(".")):
            raise ValueError(f"{path!r} is not a path of a module or parameter")


def _rebuild(described: dict[str, Any], tensors: dict[str, torch.Tensor]) -> EquivariantGraph:
    load_ops()
    if described["atomistic"] is not None:
        from irprune.families import register_ops

        register_ops(described["atomistic"]["family"])
    root = nn.Module()
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    for path, entry in described["modules"].items():
        module = op_named(entry["op"]).build(entry["spec"]).to(dtype)
        prefix = path + "."
        state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(state, strict=True)
        _attach(root, path, module)
    functions, methods = _function_names(), _methods()
    nodes: dict[str, fx.Node] = {}
    graph = fx.Graph()
    for entry in described["nodes"]:
        target: Any = entry["target"]
        if entry["op"] == "call_function":
            if target not in functions:
                raise KeyError(f"function {target}")
            target = functions[target]
        elif entry["op"] == "call_method" and target not in methods:
            raise KeyError(f"method {target}")
        elif entry["op"] == "get_attr":
            _attach_tensor(root, target, tensors[target])
        nodes[entry["name"]] = graph.create_node(
            entry["op"],
            target,
            tuple(_decode(entry["args"], nodes)),
            {k: _decode(v, nodes) for k, v in entry["kwargs"].items()},
            name=entry["name"],
        )
    compiled, kernels = described.get("compiled"), described.get("kernels")  # or an older file
    gm = fx.GraphModule(root, graph, "Graph")
    gm.eval().requires_grad_(False)
    made = EquivariantGraph.build(
        gm,
        {k: _type_from(v) for k, v in described["inputs"].items()},
        atomistic=Atomistic.from_json(described["atomistic"]) if described["atomistic"] else None,
        labels=described["labels"],
        edges_per_atom=described["edges_per_atom"],
        history=tuple(described["history"]),
        facts=frozenset({"irreps"}) | (KEPT_FACTS & set(described.get("facts", ()))),
        compiled=CompileOptions.from_json(compiled) if compiled else None,
        kernels=KernelPlan.from_json(kernels) if kernels else None,
    )
    _bind(gm, described["modules"])
    return made


def _bind(gm: fx.GraphModule, modules: dict[str, Any]) -> None:
    """Binds modules to backends, after types have been checked by a run on the CPU."""
    for path, entry in modules.items():
        if "backend" in entry:
            module = gm.get_submodule(path)
            if not isinstance(module, OnKernels):
                raise ValueError(f"module {path} has a backend, but no kernel can serve it")
            module.backend = str(entry["backend"])


def _owner(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    for part in filter(None, parent.split(".")):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        child = root._modules[part]
        assert child is not None
        root = child
    return root, name


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    owner, name = _owner(root, path)
    owner.add_module(name, module)


def _attach_tensor(root: nn.Module, path: str, tensor: torch.Tensor) -> None:
    owner, name = _owner(root, path)
    if name not in owner._parameters:
        floating = tensor.is_floating_point()
        owner.register_parameter(name, nn.Parameter(tensor, requires_grad=floating))
