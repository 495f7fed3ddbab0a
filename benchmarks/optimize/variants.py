"""What is compared: python -m benchmarks.optimize.variants MODEL -o FOLDER makes the files.

Nothing is recovered by training: the time of a call depends on shapes, not on the values of weights.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.files import read_json, sha256, write_json
from benchmarks.problems import CRYSTALS, MODELS, PER_CELL, Model

PRUNE = "score{by=energy-force,structures=8},select{keep=0.5},slice,rewrite-tp"
SEED = 0


@dataclass(frozen=True)
class Variant:
    """One thing to time."""

    name: str
    kind: str
    """stock: the family's calculator; irprune: ours on a graph file."""
    pruned: bool = False
    dtype: str = "float32"
    compile: str = ""
    """The family's own compile option, or the backend of our pass; timed with ``--compile`` only."""
    file: str = ""
    """What our graph file is called, behind the model's name."""

    def families(self) -> tuple[str, ...]:
        """The families that have it: SevenNetCalculator computes in float32 and has no compile."""
        only_mace = self.kind == "stock" and (self.dtype == "float64" or self.compile)
        return ("mace",) if only_mace else ("mace", "sevennet")


VARIANTS = (
    Variant("stock", "stock"),
    Variant("stock, float64", "stock", dtype="float64"),
    Variant("stock, own compile", "stock", compile="default"),
    Variant("optimized", "irprune"),
    Variant("optimized, float64", "irprune", dtype="float64"),
    Variant("optimized, tables 1e-6", "irprune", file="-tables"),
    Variant("optimized, compiled", "irprune", compile="inductor", file="-compiled"),
    Variant("stock, keep 0.5", "stock", pruned=True),
    Variant("optimized, keep 0.5", "irprune", pruned=True),
)
STOCK, OPTIMIZED, TABULATED = VARIANTS[0].name, "optimized", "optimized, tables 1e-6"
COMPILED = "optimized, compiled"
EXACT = "optimized, float64"
"""What forces in float32 are compared with, those of the stock calculator too."""
TABLES = "tabulate-radial{tol=1e-6}"
BY_NAME = {v.name: v for v in VARIANTS}


def of_family(family: str) -> list[Variant]:
    """The variants that a family has."""
    return [v for v in VARIANTS if family in v.families()]


def file_of(model: Model, variant: Variant, folder: Path) -> str:
    """What to load."""
    if variant.kind == "stock" and not variant.pruned:
        return model.location()
    keep = "-keep-0.5" if variant.pruned else variant.file
    suffix = model.suffix if variant.kind == "stock" else ".irp"
    return str(folder / f"{model.name}{keep}{suffix}")


def prepare(model: Model, folder: Path) -> None:
    """Writes the files and a JSON with what they hold, where they are missing."""
    facts_path = folder / f"{model.name}.json"
    names = {v.name: Path(file_of(model, v, folder)) for v in of_family(model.family)}
    ours = {n: p for n, p in names.items() if p.parent == folder}
    if read_json(facts_path) and all(p.is_file() for p in ours.values()):
        return
    import irprune
    from irprune.api import optimize_pipeline
    from irprune.compiling.compiled import CompileOptions
    from irprune.export import export

    folder.mkdir(parents=True, exist_ok=True)
    log(f"{model.name}: load, prune, optimize")
    graph = irprune.load(model.location(), trust=True)
    pruned = irprune.run(PRUNE, graph, seed=SEED)
    frames = [CRYSTALS[model.crystal].supercell(PER_CELL, seed) for seed in range(3)]
    assert graph.atomistic is not None
    facts: dict[str, Any] = {"prune": PRUNE, "optimize": str(optimize_pipeline()), "tables": TABLES}
    facts["cutoff"] = graph.atomistic.cutoff
    made = {}
    for keep, source in (("1", graph), ("0.5", pruned)):
        fast = irprune.optimize(source, seed=SEED)
        made[keep] = {
            "params": source.stats().params,
            "params_optimized": fast.stats().params,
            "flops_ratio": round(fast.stats().flops_per_atom / graph.stats().flops_per_atom, 4),
        }
        path = file_of(model, BY_NAME[OPTIMIZED if keep == "1" else "optimized, keep 0.5"], folder)
        checks = export(fast, path, frames=frames).checks
        made[keep]["checks"] = [c.to_json() for c in checks]
        if keep == "1":
            compiled = fast.replace(compiled=CompileOptions())
            for other, name in ((irprune.run(TABLES, fast), TABULATED), (compiled, COMPILED)):
                export(other, file_of(model, BY_NAME[name], folder), frames=frames)
        else:
            export(source, file_of(model, BY_NAME["stock, keep 0.5"], folder), frames=frames)
    facts["keep"] = made
    facts["files"] = {n: sha256(p) for n, p in sorted(ours.items())}
    write_json(facts_path, facts)


def calculator(model: Model, variant: Variant, location: str) -> Any:
    """The ASE calculator of a variant, on the CPU."""
    if variant.kind == "irprune":
        import irprune

        return irprune.calculator(location, dtype=variant.dtype)
    if model.family == "mace" and (variant.dtype != "float32" or variant.compile):
        import torch

        torch.serialization.add_safe_globals([slice])
        from mace.calculators import MACECalculator

        mode = {"compile_mode": variant.compile} if variant.compile else {}
        return MACECalculator(
            model_paths=location, device="cpu", default_dtype=variant.dtype, **mode
        )
    from benchmarks.worker import make_calculator

    return make_calculator(model.family, location)


def log(message: str) -> None:
    """Progress, on stderr."""
    print(f"prepare {message}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    prepare(MODELS[options.model], options.output)


if __name__ == "__main__":
    main()
