"""The results table, in Markdown: python -m benchmarks.table RESULT.json [--write README.md]."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(result: Mapping[str, Any]) -> str:
    """One line per model, size and thread count, and what it was measured with."""
    variants = list(dict.fromkeys(v["variant"] for r in result["results"] for v in r["variants"]))
    head = ["model", "crystal", "atoms", "threads", *variants]
    lines = [line(head), line(["---"] * len(head))]
    for found in result["results"]:
        timed = {v["variant"]: v for v in found["variants"]}
        cells = [_cell(timed[v]) if v in timed else "" for v in variants]
        names = [found["model"], found["crystal"], str(found["atoms"]), str(found["threads"])]
        lines.append(line(names + cells))
    return "\n".join([*lines, "", *_structures(result), "", _told(result)])


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def _cell(timed: Mapping[str, Any]) -> str:
    spread = f"{timed['median']:.2f} [{timed['q1']:.2f}, {timed['q3']:.2f}]"
    return f"{spread} · {timed['flops_ratio']:.2f}"


def _structures(result: Mapping[str, Any]) -> list[str]:
    lines = [line(["model", "variant", "parameters", "irreps per layer"]), line(["---"] * 4)]
    for name, model in result["models"].items():
        for variant, facts in model["variants"].items():
            if variant == "rebuilt":
                continue
            params = f"{facts['params']:,} ({facts['params_ratio']:.2f})"
            lines.append(line([name, variant, params, _irreps(facts["irreps"])]))
    return lines


def _irreps(layers: Mapping[str, str]) -> str:
    """Hidden features: messages follow from them."""
    shown = [t for label, t in layers.items() if "message" not in label]
    runs: list[list[Any]] = []
    for t in shown:
        if runs and runs[-1][0] == t:
            runs[-1][1] += 1
        else:
            runs.append([t, 1])
    return " → ".join(f"{t} (×{n})" if n > 1 else t for t, n in runs)


def _told(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    packages = ("torch", "e3nn", "sevenn", "mace-torch", "numpy")
    loads = result["load_average"]
    commit = (result["commit"]["hash"] or "unknown")[:10] + (
        " (modified)" if result["commit"]["dirty"] else ""
    )
    rounds = sorted({r["repeats"] for r in result["results"]})
    return (
        f"{machine['cpu']}, {machine['cores']} cores; "
        + ", ".join(f"{p} {versions[p]}" for p in packages if p in versions)
        + f"; {' or '.join(map(str, rounds))} rounds; {result['date']}, commit {commit};"
        f" load average {loads['start'][0]:.2f} at the start and {loads['end'][0]:.2f} at the end."
    )


def measured_with(result: Mapping[str, Any]) -> str:
    """Processor, versions, date and commit; no full stop."""
    machine, versions = result["machine"], result["versions"]
    packages = [p for p in ("torch", "e3nn", "sevenn", "mace-torch") if p in versions]
    found = [
        c for r in result["results"] for c in (r.get("commit"), *r.get("commits", {}).values())
    ]
    commits = {c["hash"]: c for c in found if c} or {"": result["commit"]}
    named = " and ".join(
        (c["hash"] or "unknown")[:10] + (" (modified)" if c["dirty"] else "")
        for c in commits.values()
    )
    return (
        f"{machine['cpu']}, {machine['cores']} cores;"
        f" {', '.join(f'{p} {versions[p]}' for p in packages)}; {result['date']}, commit {named}"
    )


def write_into(text: str, made: str) -> str:
    """The text with what stands between the marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in the text")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def command_line(make: Callable[[Mapping[str, Any]], str], description: str | None) -> None:
    """Prints the table of a result, or puts it between the marks of a file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", type=Path, help="put it between the marks in this file")
    options = parser.parse_args()
    made = make(json.loads(options.result.read_text(encoding="utf-8")))
    if options.write is None:
        print(made)
    else:
        old = options.write.read_text(encoding="utf-8")
        options.write.write_text(write_into(old, made), encoding="utf-8")


if __name__ == "__main__":
    command_line(table, __doc__)
