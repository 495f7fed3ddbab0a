"""What a result file holds, as checks: benchmarks/README.md documents the same in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.timing import quartiles

SCHEMA = 1
_MACHINE = {"cpu": str, "cores": int, "arch": str, "system": str}
_TOP = {
    "schema": int,
    "benchmark": str,
    "date": str,
    "commit": dict,
    "command": str,
    "machine": dict,
    "load_average": dict,
    "versions": dict,
    "settings": dict,
    "models": dict,
    "results": list,
}
_VARIANT = {
    "keep": float,
    "recipe": str,
    "commit": str,
    "tier": str,
    "checks": list,
    "params": int,
    "params_ratio": float,
    "blocks": int,
    "irreps": dict,
}
_RESULT = {
    "model": str,
    "crystal": str,
    "atoms": int,
    "threads": int,
    "edges_per_atom": float,
    "warmup": int,
    "repeats": int,
    "variants": list,
}
_TIMED = {
    "variant": str,
    "keep": float,
    "flops_per_atom": float,
    "flops_ratio": float,
    "median": float,
    "q1": float,
    "q3": float,
    "ratios": list,
}
_NEEDED_VERSIONS = ("torch", "e3nn", "numpy", "sevenn", "mace-torch")
_PATHS = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt)/")


def problems_of(result: Any) -> list[str]:
    """What is wrong with a result; empty if nothing is."""
    out = _keys(result, _TOP, "result")
    if out:
        return out
    if result["schema"] != SCHEMA:
        out.append(f"schema is {result['schema']}, expected {SCHEMA}")
    out += _keys(result["machine"], _MACHINE, "machine")
    out += [f"versions: no {v}" for v in _NEEDED_VERSIONS if v not in result["versions"]]
    out += _keys(result["load_average"], {"start": list, "end": list}, "load_average")
    out += _keys(result["commit"], {"hash": str, "dirty": bool}, "commit")
    for name, model in result["models"].items():
        out += _keys(model, {"crystal": str, "checkpoint": str, "variants": dict}, name)
        for variant, facts in model.get("variants", {}).items():
            wrong = _keys(facts, _VARIANT, f"{name} {variant}")
            failed = [] if wrong else [c for c in facts["checks"] if c.get("ok") is not True]
            out += wrong + [f"{name} {variant}: {c} did not hold" for c in failed]
    for i, found in enumerate(result["results"]):
        out += _result(found, f"results[{i}]", result["models"])
    if _PATHS.search(str(result)):
        out.append("a path of the machine is in the result")
    return out


def _result(found: Any, where: str, models: Mapping[str, Any]) -> list[str]:
    out = _keys(found, _RESULT, where)
    if out:
        return out
    if found["model"] not in models:
        return [f"{where}: unknown model {found['model']}"]
    for timed in found["variants"]:
        wrong = _keys(timed, _TIMED, where)
        if not wrong:
            wrong = _timed(timed, found, where, models)
        out += wrong
    return out


def _timed(
    timed: Mapping[str, Any], found: Mapping[str, Any], where: str, models: Mapping[str, Any]
) -> list[str]:
    name = f"{where} {timed['variant']}"
    out = []
    if timed["variant"] not in models[found["model"]]["variants"]:
        out.append(f"{name}: not among the model's variants")
    if len(timed["ratios"]) != found["repeats"]:
        out.append(f"{name}: {len(timed['ratios'])} ratios for {found['repeats']} rounds")
    elif any(not r > 0 for r in timed["ratios"]):
        out.append(f"{name}: ratios must be positive")
    else:
        wanted = quartiles(timed["ratios"])
        got = (timed["q1"], timed["median"], timed["q3"])
        if any(abs(a - b) > 2e-4 for a, b in zip(wanted, got, strict=True)):
            out.append(f"{name}: median or quartiles are not those of the ratios")
    return out


def _keys(value: Any, wanted: Mapping[str, type], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: expected an object, got {type(value).__name__}"]
    out = [f"{where}: no {k}" for k in wanted if k not in value]
    out += [f"{where}: unknown key {k}" for k in value if k not in wanted]
    for key, kind in wanted.items():
        if key in value and not isinstance(value[key], (float, int) if kind is float else kind):
            out.append(f"{where}: {key} is {type(value[key]).__name__}, not {kind.__name__}")
    return out
