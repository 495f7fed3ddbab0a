"""Golden files: texts under tests/golden that a change of irprune may only change knowingly.

``pytest --regenerate-goldens TEST…`` writes them again; read the difference before committing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Goldens:
    """The checker: compares a text with its file, or writes the file where that was asked for."""

    regenerate: bool = False
    folder: Path = FOLDER

    def __call__(self, name: str, text: str) -> None:
        """Fails where the file says something else, or is not there."""
        path = self.folder / name
        if self.regenerate:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert path.exists(), f"no {path}; write it with --regenerate-goldens, and read it"
        want = path.read_text(encoding="utf-8").splitlines()
        assert text.splitlines() == want, f"{path} says something else"

    def sections(self, name: str, head: dict[str, str], parts: dict[str, str]) -> None:
        """Several texts in one file, each under a heading; those with nothing to say are left out."""
        lines = [f"# {k}: {v}" for k, v in head.items()]
        for title, text in parts.items():
            lines += ["", f"# ---- {title}", text] if text else []
        self(name, "\n".join(lines))


def section(name: str, title: str, folder: Path = FOLDER) -> str:
    """One text of a file of several."""
    text = (folder / name).read_text(encoding="utf-8")
    return text.split(f"\n# ---- {title}\n", 1)[1].split("\n\n# ---- ", 1)[0]
