"""From text to a listing: ``parse(str(listing)) == listing``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from irprune.text.listing import (
    AxisLine,
    CostNote,
    FixedLine,
    KernelsLine,
    Listing,
    Statement,
    TensorLine,
)
from irprune.text.scan import NAME, Line
from irprune.text.values import Ref, implied_function

_OP = re.compile(r"[\w-]+", re.ASCII)
_PATH = re.compile(r"[^\s{}]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_RANGES = re.compile(r"\d[\d,-]*|none")
_SIZES = re.compile(r"[\dx]*")
_IR = re.compile(r"[^\]\s]+")
_REST = re.compile(r".+")


def parse(text: str) -> Listing:
    """Reads the text of a graph. Empty lines, and lines that begin with ``#``, say nothing.

    Raises:
        TextError: what cannot be read, with line and column; a value that is made twice, or used
            before it is made.
    """
    found: dict[type, list[Any]] = {
        kind: [] for kind in (Statement, AxisLine, FixedLine, TensorLine, KernelsLine)
    }
    compiled, made = None, set[str]()
    for number, content in enumerate(text.split("\n"), 1):
        line = Line(content, number)
        line.blank()
        if line.at == len(content) or line.peek("#"):
            continue
        if line.peek("%"):
            entry: Any = _value(line, made)
        elif (word := NAME.match(content, line.at)) and word.group() in _READERS:
            line.at = word.end()
            entry = _READERS[word.group()](line, made)
        else:
            line.fail(f"%name, or one of {', '.join(_READERS)}")
        line.end()
        if isinstance(entry, str):
            compiled = entry
        else:
            found[type(entry)].append(entry)
    return Listing(
        tuple(found[Statement]), tuple(found[AxisLine]), tuple(found[FixedLine]),
        tuple(found[TensorLine]), compiled, next(iter(found[KernelsLine]), None),
    )  # fmt: skip


def _value(line: Line, made: set[str]) -> Statement:
    start = line.at
    name = line.ref()
    if name in made:
        line.error(f"%{name} is made a second time", start)
    line.expect(":")
    t = line.type()
    line.expect("=")
    line.blank()
    at = line.at
    op = line.word(_OP, "input, parameter or the name of an op")
    called = line.peek("(")
    args, kwargs = _call(line, made) if called else ((), ())
    target = _braces(line)
    made.add(name)
    if op == "input":
        return Statement(name, "input", t, "", target or name, args)
    if op == "parameter":
        if target is None:
            line.fail("the path of the parameter in braces")
        return Statement(name, "parameter", t, "", target)
    if not called:
        line.fail("arguments in brackets")
    kind = "module"
    if target is None:
        kind, target = "function", implied_function(op)
        if target is None:
            line.error(f"op {op} has no function of its own: say in braces what is called", at)
    elif target.endswith("()"):
        kind = "method" if target.startswith(".") else "function"
        target = target.removesuffix("()").removeprefix(".")
    cost = _cost(line) if line.take(";") else None
    return Statement(name, kind, t, op, target, args, kwargs, cost)


def _call(line: Line, made: set[str]) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    start = line.at
    args, kwargs = line.call()
    _check_made(line, (args, dict(kwargs)), made, start)
    return args, kwargs


def _check_made(line: Line, a: Any, made: set[str], start: int) -> None:
    if isinstance(a, Ref) and a.name not in made:
        at = re.compile(rf"%{a.name}\b").search(line.text, start)
        line.error(f"%{a.name} is used before it is made", at.start() if at else start)
    parts: Any = ()
    if isinstance(a, dict):
        parts = a.values()
    elif isinstance(a, (tuple, list)):
        parts = a
    elif isinstance(a, slice):
        parts = (a.start, a.stop, a.step)
    for part in parts:
        _check_made(line, part, made, start)


def _braces(line: Line) -> str | None:
    if not line.take("{"):
        return None
    found = line.word(_PATH, "what is called")
    line.expect("}")
    return found


def _cost(line: Line) -> CostNote:
    numbers = []
    for what in ("blocks,", "params,", "FLOPs per"):
        numbers.append(float(line.word(_NUMBER, f"a number of {what.split(',')[0]}")))
        line.expect(what)
    per = line.word(NAME, "node, edge, pair, graph or any")
    return CostNote(int(numbers[0]), int(numbers[1]), numbers[2], per)


def _return(line: Line, made: set[str]) -> Statement:
    start = line.at
    value = line.argument()
    _check_made(line, value, made, start)
    return Statement(_braces(line) or "output", "return", None, "", "", (value,))


def _compiled(line: Line, made: set[str]) -> str:
    line.expect("by")
    return line.word(NAME, "a backend")


def _kernels(line: Line, made: set[str]) -> KernelsLine:
    line.blank()
    return KernelsLine(line.word(_REST, "what was chosen"))


def _axis(line: Line, made: set[str]) -> AxisLine:
    name = line.word(re.compile(r"\S+"), "the name of an axis")
    line.expect(":")
    kind = line.word(NAME, "a kind of axis")
    line.expect("[")
    groups = line.whole("a number of groups")
    line.expect("x")
    irrep = line.word(_IR, "an irrep")
    line.expect("]")
    line.expect("at")
    node = line.ref()
    line.expect("segment")
    segment = line.whole("a number")
    others: list[str] = []
    if line.take("with"):
        others.append(line.ref())
        while line.take(","):
            others.append(line.ref())
    kept = _ranges(line.word(_RANGES, "numbers of groups")) if line.take("keep") else None
    return AxisLine(name, kind, irrep, groups, node, segment, tuple(others), kept)


def _ranges(text: str) -> tuple[int, ...]:
    out: list[int] = []
    for run in () if text == "none" else text.split(","):
        first, _, last = run.partition("-")
        out += range(int(first), int(last or first) + 1)
    return tuple(out)


def _fixed(line: Line, made: set[str]) -> FixedLine:
    blocks = line.whole("a number of blocks")
    line.expect("blocks:")
    return FixedLine(blocks, line.word(_REST, "a reason"))


def _tensor(line: Line, made: set[str]) -> TensorLine:
    path = line.word(re.compile(r"\S+"), "the path of a tensor")
    line.expect(":")
    dtype = line.word(NAME, "a dtype")
    line.expect("[")
    sizes = line.match(_SIZES) or ""
    line.expect("]")
    return TensorLine(path, dtype, tuple(map(int, sizes.split("x"))) if sizes else ())


_READERS: dict[str, Callable[[Line, set[str]], Any]] = {
    "return": _return,
    "compiled": _compiled,
    "kernels": _kernels,
    "axis": _axis,
    "fixed": _fixed,
    "tensor": _tensor,
}
