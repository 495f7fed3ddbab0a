"""The Python interface in plain functions; ``irprune`` exports them lazily.

Nothing here knows a family or a pass: models come in through ``irprune.families`` and
``irprune.graphfile``, passes through the registry. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irprune.arguments import check_graph, check_structures
from irprune.errors import UsageError
from irprune.options import format_value
from irprune.passmanager import (
    Pass,
    PassContext,
    PassReport,
    Pipeline,
    PipelineReport,
    Progress,
    no_progress,
    run_pipeline,
)

if TYPE_CHECKING:
    from ase import Atoms

    from irprune.debugging.observers import Observer
    from irprune.evaluation.calculator import IrpruneCalculator
    from irprune.evaluation.metrics import Metrics
    from irprune.evaluation.potential import Potential
    from irprune.graph import EquivariantGraph
    from irprune.verification.checks import Check

TARGETS = ("auto", "native:mace", "native:sevennet", "surgery", "graph")
CRITERIA = (
    "energy-force", "taylor", "fisher", "activation", "magnitude", "redundancy", "random",
)  # fmt: skip
PipelineLike = Pipeline | Pass | str | Path | Iterable[Pass]


def load(
    name_or_path: str | Path, trust: bool = False, dtype: str | None = None
) -> EquivariantGraph:
    """A model as a graph: one of our graph files, or a checkpoint or name that a family knows.

    Args:
        name_or_path: a file, or a name such as ``7net-0``.
        trust: allow pickles that can run code. Only for files that you trust.
        dtype: ``float32`` or ``float64``; default that of the model.

    Raises:
        UsageError: there is no such file or name.
        ModelFileError: the file cannot be read, is not trusted or is not supported.
    """
    from irprune.families import load_model

    return load_model(name_or_path, trust=trust, dtype=dtype)


def run(
    pipeline: PipelineLike,
    graph: EquivariantGraph,
    data: Sequence[Atoms] | None = None,
    **options: Any,
) -> EquivariantGraph:
    """Runs a pipeline on a graph and gives the new graph; ``graph`` is not changed.

    Args:
        pipeline: text (``"score,select{keep=0.5},slice"``), a YAML recipe's path, passes, or a
            ``Pipeline``.
        graph: what ``load`` or ``trace`` gave.
        data: structures to score or recover on; passes that need some and get none make their own.
        options: as for ``run_reported``.
    """
    return run_reported(pipeline, graph, data, **options)[0]


def run_reported(
    pipeline: PipelineLike,
    graph: EquivariantGraph,
    data: Sequence[Atoms] | None = None,
    *,
    seed: int = 0,
    target: str = "auto",
    device: str = "cpu",
    dtype: str | None = None,
    output: str | Path | None = None,
    teacher: EquivariantGraph | None = None,
    stopwatch: Callable[[Any, Any, int], Sequence[tuple[float, float]]] | None = None,
    progress: Progress = no_progress,
    observers: Sequence[Observer] = (),
    verify_each: bool = False,
    on_pass: Callable[[PassReport], None] | None = None,
) -> tuple[EquivariantGraph, PipelineReport]:
    """As ``run``, with the report of what each pass did.

    ``observers`` are called before and after every pass: ``Printer`` and ``Dumper`` of
    ``irprune.debugging.observers``, or your own.

    Raises:
        PipelineError: the pipeline does not parse, or a requirement is not met.
        UsageError: a graph that is none, or data that is no sequence of structures.
        DataError: data without any.
        CheckFailed: with ``verify_each``, a pass broke what it claims to keep.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    if device != "cpu":
        raise UsageError(
            f"passes run on the CPU, got device {device!r}; evaluate and the calculator run on others"
        )
    passes = Pipeline.of(pipeline)
    check_graph(graph)
    if data is not None:
        check_structures(data)
    context = PassContext(
        frames=data,
        seed=seed,
        device=device,
        dtype=dtype,
        target=target,
        output=None if output is None else Path(output),
        progress=progress,
        verify=lambda g: verify_step(g, data, seed),
        teacher=graph if teacher is None else teacher,
        stopwatch=stopwatch,
    )
    return run_pipeline(
        passes,
        graph,
        context,
        observers=observers,
        verify_each=verify_each,
        on_pass=on_pass,
    )


def prune_pipeline(
    *,
    keep: float | None = None,
    to: str | None = None,
    budget: str | None = None,
    criterion: str | None = None,
    recover: int = 0,
    verify: bool = True,
    steps: int = 1,
    **select: Any,
) -> Pipeline:
    """The pipeline that ``irprune prune`` runs.

    Args:
        keep: fraction of blocks to keep, in (0, 1].
        to: irreps to prune to, such as ``64x0e``.
        budget: ``params=P%``, ``flops=P%`` or ``latency=P%`` of the original.
        criterion: one of ``CRITERIA``; default ``energy-force``, or ``magnitude`` with ``to``.
        recover: distillation steps after slicing; 0 for none.
        verify: check what was sliced, before anything is trained.
        steps: reach the goal in so many rounds of score, select, slice and recover. Every round keeps
            the same share of what the one before left.
        select: other options of the pass ``select``, such as ``align=8``.

    Raises:
        UsageError: none or several of keep, to and budget, or a value out of range.
    """
    given = [n for n, v in (("keep", keep), ("to", to), ("budget", budget)) if v is not None]
    if len(given) > 1:
        raise UsageError(f"give one of keep, to and budget, not {' and '.join(given)}")
    if not given:
        keep = 0.5
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"keep must be a fraction in (0, 1], got {keep:g}")
    if recover < 0:
        raise UsageError(f"recover must be a number of steps, 0 or more, got {recover}")
    if criterion is None:
        criterion = "energy-force" if to is None else "magnitude"
    if criterion not in CRITERIA:
        raise UsageError(f"unknown criterion {criterion!r}; known are {', '.join(CRITERIA)}")
    if steps < 1:
        raise UsageError(f"steps must be a number of rounds, 1 or more, got {steps}")
    if steps > 1 and to is not None:
        raise UsageError(
            f"to={to} is one structure, which steps={steps} cannot lead to by shares; give keep or a"
            " budget with steps"
        )
    more = "".join(f",{k.replace('_', '-')}={_value(v)}" for k, v in select.items())
    if to is not None:
        from irprune.irreps import IrrepsType

        parts = "|".join(IrrepsType.parse(part).irreps for part in to.split("|"))
        goals = [f"to={format_value(parts, str)}"]
    else:
        goals = [_share(keep, budget, n / steps) for n in range(1, steps + 1)]
        more += ",of-original=true" if steps > 1 else ""
    tail = ",verify" if verify else ""
    tail += f",recover{{steps={recover}}}" if recover else ""
    return Pipeline.parse(
        ",".join(
            f"score{{by={criterion}}},select{{{goal}{more}}},slice,rewrite-tp{tail}"
            for goal in goals
        )
    )


def _value(value: Any) -> str:
    """A value as pipeline text."""
    return format_value(value, tuple[str, ...] if isinstance(value, list | tuple) else type(value))


def _share(keep: float | None, budget: str | None, power: float) -> str:
    """The goal of a round as an option of select: the whole goal to a power, exact at 1."""
    if budget is None:
        assert keep is not None
        return f"keep={keep if power == 1 else round(keep**power, 6)!r}"
    quantity, _, share = _budget(budget).partition("=")
    if power == 1:
        return f"{quantity}={share}"
    return f"{quantity}={100 * (float(share[:-1]) / 100) ** power:.6g}%"


EXACT = (
    "cse,eliminate-dead,symmetrize-contraction,fold-onehot,lower-contraction{specialize},fuse-conv,"
    "share-pairs,fuse-linear,cse"
)
TABLES = ",tabulate-radial{{tol={tol!r}}},cse"
KERNELS = ",select-kernels"
"""What ``optimize`` runs: every exact pass, in an order in which each sees what it can use."""


def optimize_pipeline(
    *,
    elements: Sequence[str] = (),
    tabulate: float | None = None,
    compile: bool = False,
    verify: bool = True,
    require_kernel: str | None = None,
) -> Pipeline:
    """The pipeline that ``irprune optimize`` runs.

    Args:
        elements: chemical symbols to keep; all where none are given.
        tabulate: the tolerance of tabulated radial networks; None, the default, keeps them exact.
        compile: compile the result with torch.compile.
        verify: check the result against the original; with ``tabulate``, before it and after it.
        require_kernel: the backend that must serve every node that it is meant for; ``NAME@DEVICE``
            on another device than the CPU, such as ``triton@cuda``.
    """
    special = f",specialize-elements{{elements=[{','.join(elements)}]}}"
    text = EXACT.format(specialize=special if elements else "")
    if tabulate is not None:
        text += (",verify" if verify else "") + TABLES.format(tol=float(tabulate))
    text += KERNELS
    if require_kernel is not None:
        name, _, device = require_kernel.partition("@")
        text += f"{{require={format_value(name, str)},device={format_value(device or 'cpu', str)}}}"
    text += ",compile" if compile else ""
    return Pipeline.parse(text + (",verify" if verify else ""))


def optimize(
    graph: EquivariantGraph,
    *,
    elements: Sequence[str] = (),
    tabulate: float | None = None,
    compile: bool = False,
    verify: bool = True,
    require_kernel: str | None = None,
    **options: Any,
) -> EquivariantGraph:
    """The same function, faster: ``run`` with the pipeline of ``optimize_pipeline``.

    Nothing is lost (but what ``tabulate`` allows) and no data are needed. The result can be pruned no
    more: prune first.
    """
    pipeline = optimize_pipeline(
        elements=elements,
        tabulate=tabulate,
        compile=compile,
        verify=verify,
        require_kernel=require_kernel,
    )
    return run(pipeline, graph, None, **options)


def _budget(text: str) -> str:
    """``params=50%`` as an option of select.

    Raises:
        UsageError: another quantity, or a share that is not in (0, 100].
    """
    quantity, _, share = text.partition("=")
    if quantity not in ("params", "flops", "latency") or not share:
        raise UsageError(
            f"a budget is params=P%, flops=P% or latency=P%, such as params=50%, got {text!r}"
        )
    try:
        percent = float(share.removesuffix("%"))
    except ValueError:
        percent = float("nan")
    if not share.endswith("%") or not 0 < percent <= 100:
        raise UsageError(f"a budget is a share in (0, 100] with a percent sign, got {text!r}")
    return f"{quantity}={share}"


def prune(
    graph: EquivariantGraph,
    data: Sequence[Atoms] | None = None,
    *,
    keep: float | None = None,
    to: str | None = None,
    budget: str | None = None,
    criterion: str | None = None,
    recover: int = 0,
    verify: bool = True,
    steps: int = 1,
    select: Mapping[str, Any] | None = None,
    **options: Any,
) -> EquivariantGraph:
    """``run`` with the pipeline of ``prune_pipeline``; ``select``: other options of that pass."""
    pipeline = prune_pipeline(
        keep=keep,
        to=to,
        budget=budget,
        criterion=criterion,
        recover=recover,
        verify=verify,
        steps=steps,
        **(select or {}),
    )
    return run(pipeline, graph, data, **options)


def potential(
    model: EquivariantGraph | str | Path,
    trust: bool = False,
    dtype: str | None = None,
    *,
    compiled: bool = True,
) -> Potential:
    """A model that evaluates structures to energies, forces and stress.

    Args:
        model: a graph, file or name.
        trust: as for ``load``.
        dtype: ``float32`` or ``float64``; default that of the model.
        compiled: compile the graph where the pass ``compile`` asked for it; else run it as it is.

    Raises:
        UsageError: a graph that does not say which atoms it is for (``irprune.trace``).
    """
    from irprune.evaluation.potential import Potential

    graph = load(model, trust) if isinstance(model, str | Path) else model
    if graph.atomistic is None:
        raise UsageError(
            "this graph is not an interatomic potential: it has no cutoff and no elements"
        )
    wanted = _torch_dtype(dtype)
    module = graph.runnable(wanted) if compiled else graph.module(wanted)
    return Potential(module, graph.atomistic)


def _torch_dtype(name: str | None) -> Any:
    """``float32`` or ``float64`` as torch's dtype; None for that of the model."""
    if name is None:
        return None
    import torch

    if name not in ("float32", "float64"):
        raise UsageError(f"unknown dtype {name!r}; known are float32, float64")
    return getattr(torch, name)


def calculator(
    model: EquivariantGraph | str | Path,
    *,
    trust: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    head: str | None = None,
    compiled: bool = True,
) -> IrpruneCalculator:
    """An ASE calculator: energy, atomic energies, forces, stress. ``compiled`` as for ``potential``.

    Raises:
        UsageError: a device that is not there; otherwise as ``potential``.
    """
    from irprune.devices import usable_device
    from irprune.evaluation.calculator import IrpruneCalculator

    if device is not None:
        usable_device(device, f"calculator: device {device!r}")
    found = potential(model, trust, dtype, compiled=compiled)
    return IrpruneCalculator(found.module, found.atomistic, head=head, device=device)


def evaluate(
    model: EquivariantGraph | str | Path,
    data: Sequence[Atoms],
    reference: EquivariantGraph | str | Path | None = None,
    *,
    trust: bool = False,
    batch_size: int = 8,
) -> Metrics:
    """Errors against the labels of the structures or, with ``reference``, against that model.

    Raises:
        UsageError: data that is no sequence of structures.
        DataError: structures that the model cannot run on, or without labels.
    """
    from irprune.evaluation.metrics import compare_potentials, evaluate_frames

    check_structures(data)
    found = potential(model, trust)
    if reference is None:
        return evaluate_frames(found, data, batch_size)
    return compare_potentials(found, potential(reference, trust), data, batch_size)


def generated_frames(graph: EquivariantGraph, n: int, seed: int = 0) -> list[Atoms]:
    """Structures with elements that the model knows, for work that needs no data set."""
    from irprune.data.generate import generate

    if graph.atomistic is None:
        raise UsageError("structures can only be generated for an interatomic potential")
    return generate(graph.atomistic, n, seed, max_atoms=12)


def verify_step(
    graph: EquivariantGraph, data: Sequence[Atoms] | None = None, seed: int = 0
) -> list[Check]:
    """What ``verify_each`` runs after a pass: types, masked = sliced, and three quick rungs."""
    from irprune.data.choice import evenly
    from irprune.verification.ladder import verify_graph

    frames: Sequence[Atoms] | None = evenly(data, 2) if data else None
    if frames is None and graph.atomistic is not None:
        frames = generated_frames(graph, 2, seed)
    return verify_graph(graph, frames, seed=seed, steps=("rotation", "permutation", "forces"))
