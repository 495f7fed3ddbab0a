"""The demo's answer as a report and as JSON."""

from __future__ import annotations

from typing import Any

from irprune.cli.demo_steps import N_TEST, N_TRAIN, Outcome, Plan
from irprune.cli.job_report import passes_of
from irprune.cli.results import checks_json, sizes
from irprune.passmanager import check_json
from irprune.report.model import Report, Row
from irprune.versions import versions


def build_report(plan: Plan, outcome: Outcome) -> Report:
    """The page that the demo writes."""
    from irprune.picture.build import pictures_of

    before, after = outcome.errors
    a, b = outcome.report.before, outcome.report.after
    slow, fast = outcome.latencies
    rows = (
        Row("parameters", "", (a.params, b.params, b.params), compare=True),
        Row(
            "FLOPs per atom",
            "",
            (a.flops_per_atom, b.flops_per_atom, b.flops_per_atom),
            compare=True,
        ),
        Row("blocks", "", (a.blocks, b.blocks, b.blocks), compare=True),
        Row(f"time of a call, {outcome.latency_atoms} atoms, ratio", "", (1.0, None, fast / slow)),
        Row(
            "energy error against the original",
            "meV/atom",
            (0.0, _milli(before.energy_mae_ev_per_atom), _milli(after.energy_mae_ev_per_atom)),
        ),
        Row(
            "force error against the original",
            "meV/Å",
            (0.0, _milli(before.force_mae_ev_per_a), _milli(after.force_mae_ev_per_a)),
        ),
        Row(
            "stress error against the original",
            "GPa",
            (0.0, before.stress_mae_gpa, after.stress_mae_gpa),
        ),
    )
    scores, kept = _scores(outcome)
    passes = (
        *passes_of(outcome.report, outcome.changes[0]),
        *passes_of(outcome.recovery, outcome.changes[1]),
    )
    faster = outcome.latencies[0] / outcome.latencies[1]
    return Report(
        title=f"{plan.model}, pruned to {plan.keep:.0%} of its blocks",
        summary=(
            f"{a.params:,} parameters became {b.params:,}; energies and forces are {faster:.2g}"
            " times as fast. Errors are mean absolute differences from the original model on"
            f" {N_TEST} generated structures that the recovery has not seen."
        ),
        models=("original", "pruned", "recovered"),
        rows=rows,
        pictures=pictures_of(outcome.original, outcome.recovered),
        irreps=(outcome.original.irreps_per_layer(), outcome.recovered.irreps_per_layer()),
        irreps_names=("before", "after"),
        scores=scores,
        kept=kept,
        curve=tuple((float(r.step), r.loss) for r in outcome.distillation.history),
        checks=tuple(check_json(c) for c in outcome.checks),
        passes=passes,
        pipeline=f"{outcome.report.pipeline},{outcome.recovery.pipeline}",
        tier=outcome.exported.tier,
        command=f"irprune demo --model {plan.model} --keep {plan.keep:g} --steps {plan.steps}"
        f" --elements {','.join(plan.elements)} --seed {plan.seed}",
        versions=versions(),
        notes=(
            f"Recovered in {outcome.distillation.steps} steps on {N_TRAIN} generated structures"
            f" of {', '.join(plan.elements)}, labelled by the original model.",
            "The sliced model was compared with the masked original before the recovery; all other"
            " checks are of the recovered model.",
        ),
    )


def payload_of(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    before, after = outcome.errors
    return {
        "model": plan.model,
        "output": str(outcome.exported.path),
        "tier": outcome.exported.tier,
        **sizes(outcome.report.before, outcome.report.after),
        "irreps": outcome.recovered.irreps_per_layer(),
        "irreps_before": outcome.original.irreps_per_layer(),
        "latency_ratio": outcome.latencies[1] / outcome.latencies[0],
        "before_recovery": before.to_json(),
        "after_recovery": after.to_json(),
        "energy_mae_ev_per_atom": after.energy_mae_ev_per_atom,
        "force_mae_ev_per_a": after.force_mae_ev_per_a,
        "stress_mae_gpa": after.stress_mae_gpa,
        "checks": checks_json(outcome.checks),
        "pipeline": f"{outcome.report.pipeline},{outcome.recovery.pipeline}",
        "passes": [p.to_json() for p in (*outcome.report.passes, *outcome.recovery.passes)],
    }


def _milli(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def _scores(outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of the channel blocks by layer and irrep, and which of them stayed."""
    graph = outcome.pruned.origin
    scores: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    if graph is None or graph.scores is None or graph.keep is None:
        return scores, kept
    for axis in graph.axes():
        if axis.kind != "channel" or axis.ir[-1:] not in ("e", "o"):
            continue
        layer = axis.name.rpartition(":")[0].rpartition(".")[0] or axis.name
        groups = list(axis.groups)
        scores.setdefault(layer, {}).setdefault(axis.ir, []).extend(
            float(v) for v in graph.scores.values[groups]
        )
        kept.setdefault(layer, {}).setdefault(axis.ir, []).extend(
            bool(k) for k in graph.keep[groups]
        )
    return scores, kept
