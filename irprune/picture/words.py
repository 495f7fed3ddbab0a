"""What a picture says of a node in words."""

from __future__ import annotations

from irprune.picture.model import Value
from irprune.report.model import number

NAMES = {
    "irreps": "irreps",
    "params": "parameters",
    "flops": "FLOPs per atom",
    "score": "importance",
    "time": "time",
}
"""Measure → how people call it."""

_SHORT = {"fully-connected-net": "radial network", "spherical-harmonics": "harmonics"}
_SIGNS = {"getitem": "gather", "scatter-sum": "scatter", "message-gather": "scatter"}
_MAX_LISTED = 6


def named(v: Value) -> str:
    """What stands in the box of a node."""
    if v.kind == "input":
        return v.name
    if v.wide:
        return _SHORT.get(v.op, v.op)
    return _SIGNS.get(v.op, v.op)


def irreps_text(v: Value) -> str:
    """Its blocks by irrep, such as ``128x0e+64x1o``, or ``128x(0e+1o)`` where all are as many."""
    left = [s for s in v.stripes if s.now]
    if len(left) > 1 and len({s.now for s in left}) == 1:
        return f"{left[0].now}x({'+'.join(s.ir for s in left)})"
    return "+".join(f"{s.now}x{s.ir}" for s in left) or "nothing left"


def said(v: Value, measure: str) -> str:
    """One measure of a node; empty where it has nothing of it."""
    if measure == "irreps":
        return irreps_text(v)
    value = v.measure(measure)
    if not value:
        return ""
    if measure == "time":
        return millis(value)
    unit = {"params": " params", "flops": " FLOPs"}.get(measure, "")
    text = number(int(value)) if measure == "params" else number(value)
    return f"{text}{unit}" if measure != "score" else f"{value:.2e}"


def millis(seconds: float) -> str:
    """A time, such as ``12.5 ms``."""
    value = 1e3 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def blocks_text(v: Value) -> str:
    """Blocks by irrep, with what there was before where that was more."""
    return ", ".join(
        f"{s.now} of {s.before} {s.ir}" if s.before > s.now else f"{s.now} {s.ir}"
        for s in v.stripes
    )


def title_of(v: Value) -> str:
    """Everything that is known of a node, a line for each thing."""
    states = {
        "gone": "not in the other graph",
        "new": "not in the other graph",
        "changed": "another type in the other graph",
    }
    lines = [
        f"%{v.name}" + (f" : {v.type}" if v.type else ""),
        f"{v.op} {{{v.called}}}" if v.kind == "module" or v.called not in ("", v.name) else v.op,
        f"blocks: {blocks_text(v)}" if v.stripes else "",
        f"parameters: {v.params:,}" if v.params else "",
        f"FLOPs per atom: {number(v.flops)}" if v.flops else "",
        f"importance: {v.score:.3e}" if v.score is not None else "",
        f"time: {millis(v.seconds)}, forward and backward" if v.seconds is not None else "",
        f"reads: {_listed(v.reads)}" if v.reads else "",
        f"coupled groups of: {_listed(v.groups)}" if v.groups else "",
        f"frozen: {v.frozen}" if v.frozen else "",
        f"barrier: {v.why}" if v.why else "",
        states.get(v.state, ""),
    ]
    return "\n".join(line for line in lines if line)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
