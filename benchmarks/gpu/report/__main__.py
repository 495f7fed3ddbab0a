"""Page and pictures of the results of benchmarks.gpu.run, from its JSON alone.

    python -m benchmarks.gpu.report benchmarks/results/gpu/h200 -o benchmarks/gpu/h200.md

Pictures are written beside the results. What was not reached, what failed and what is wrong is on the
page as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.report.page import page, read
from benchmarks.gpu.report.picture import pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes them; 2 where a folder has no results."""
    made = argparse.ArgumentParser(prog="benchmarks.gpu.report", description=__doc__)
    made.add_argument("folder", type=Path, help="with what benchmarks.gpu.run wrote")
    made.add_argument("-o", type=Path, required=True, metavar="PAGE.md")
    given = made.parse_args(arguments)
    found = read(given.folder)
    if not found:
        made.exit(2, f"{given.folder} has no result of benchmarks.gpu.run\n")
    drawn = pictures(found, given.folder)
    given.o.write_text(page(found, drawn, given.o.parent), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
