"""Reading one line of text: where we are, what was expected there, and arguments and types."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NoReturn

from irprune.errors import IrpruneError, TextError
from irprune.irreps import IrrepsType, Layout, Space
from irprune.ops.base import Other
from irprune.text.values import Ref, Word

NAME = re.compile(r"\w+", re.ASCII)
SPACES = frozenset(s.value for s in Space)
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"-inf|\.\.\.|[A-Za-z_][\w.]*")
_RAW = re.compile(r"`[^`]*`")
_KEYWORD = re.compile(r"([A-Za-z_]\w*)=")
_SHAPE = re.compile(r"\d+(?:x\d+)*")
_CONSTANTS = {"None": None, "True": True, "False": False}


class Line:
    """One line and a position in it."""

    def __init__(self, text: str, number: int) -> None:
        self.text, self.number, self.at = text, number, 0

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        """Raises TextError: what was expected at a column, and what stands there."""
        at = self.at if at is None else at
        rest = self.text[at : at + 24].rstrip()
        self.error(f"expected {expected}, got {rest!r}" if rest else f"expected {expected}", at)

    def error(self, message: str, at: int | None = None) -> NoReturn:
        column = (self.at if at is None else at) + 1
        raise TextError(f"line {self.number}, column {column}: {message}")

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def peek(self, literal: str) -> bool:
        """Whether the literal comes next, after blanks."""
        self.blank()
        return self.text.startswith(literal, self.at)

    def take(self, literal: str) -> bool:
        """Goes past the literal where it comes next."""
        if not self.peek(literal):
            return False
        self.at += len(literal)
        return True

    def expect(self, literal: str) -> None:
        if not self.take(literal):
            self.fail(repr(literal))

    def match(self, pattern: re.Pattern[str], expected: str = "") -> str | None:
        """What the pattern matches next; None, or an error where it must, if it does not."""
        self.blank()
        found = pattern.match(self.text, self.at)
        if found is None:
            if expected:
                self.fail(expected)
            return None
        self.at = found.end()
        return found.group()

    def word(self, pattern: re.Pattern[str], expected: str) -> str:
        found = self.match(pattern, expected)
        assert found is not None
        return found

    def whole(self, expected: str) -> int:
        return int(self.word(re.compile(r"\d+"), expected))

    def end(self) -> None:
        self.blank()
        if self.at < len(self.text):
            self.fail("the end of the line")

    # ---- values

    def ref(self) -> str:
        """``%name``."""
        self.expect("%")
        return self.word(NAME, "the name of a value")

    def items(self, close: str, item: Callable[[], Any]) -> tuple[list[Any], bool]:
        """What stands between commas up to ``close``, and whether a comma stands last."""
        found: list[Any] = []
        comma = False
        while not self.take(close):
            if found and not comma:
                self.fail(f"a comma or {close!r}")
            found.append(item())
            comma = self.take(",")
        return found, comma

    def call(self) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
        """``(arguments, name=argument)``."""
        self.expect("(")
        args: list[Any] = []
        kwargs: list[tuple[str, Any]] = []

        def one() -> None:
            self.blank()
            found = _KEYWORD.match(self.text, self.at)
            if found is not None:
                self.at = found.end()
                kwargs.append((found.group(1), self.argument()))
            elif kwargs:
                self.fail("an argument with a name, after the first of these")
            else:
                args.append(self.argument())

        self.items(")", one)
        return tuple(args), tuple(kwargs)

    def argument(self) -> Any:
        """A value, or a slice of values."""
        start = None if self.peek(":") else self.value()
        if not self.take(":"):
            return start
        stop = None if self._slice_ends() or self.peek(":") else self.value()
        step = self.value() if self.take(":") and not self._slice_ends() else None
        return slice(start, stop, step)

    def _slice_ends(self) -> bool:
        return any(self.peek(c) for c in ",)]}")

    def value(self) -> Any:
        if self.peek("%"):
            return Ref(self.ref())
        if self.take("("):
            found, comma = self.items(")", self.argument)
            if len(found) == 1 and not comma:
                self.fail("a comma before ')': a tuple of one", self.at - 1)
            return tuple(found)
        if self.take("["):
            return self.items("]", self.argument)[0]
        if self.take("{"):
            return dict(self.items("}", self._entry)[0])
        literal = self.literal()
        if literal is not None:
            return literal[0]
        raw = self.match(_RAW)
        return Word(raw if raw is not None else self._constant())

    def literal(self) -> tuple[Any] | None:
        """A string, a number, None, True or False, in a tuple; None where none comes next."""
        found = self.match(_STRING) or self.match(_NUMBER)
        if found is not None:
            return (ast.literal_eval(found),)
        for name, constant in _CONSTANTS.items():
            if self.peek(name) and not NAME.match(self.text, self.at + len(name)):
                self.at += len(name)
                return (constant,)
        return None

    def _entry(self) -> tuple[str, Any]:
        key = self.word(_STRING, "a key in quotes")
        self.expect(":")
        return ast.literal_eval(key), self.argument()

    def _constant(self) -> str:
        return self.word(_WORD, "a value")

    # ---- types

    def type(self) -> Any:
        """``node[4x0e+2x1o]``, ``index[edge]``, or types in brackets."""
        if self.take("("):
            return tuple(self.items(")", self.type)[0])
        start = self.at
        kind = self.word(NAME, "a type, such as node[4x0e+2x1o]")
        if kind in SPACES:
            return self._irreps(Space(kind), start)
        if not self.text.startswith("[", self.at):
            return Other(kind)
        self.at += 1
        shape: tuple[int, ...] | None = None
        rows = value = None
        if kind == "param" and not any(self.peek(s) for s in SPACES):
            sizes = self.match(_SHAPE) or ""
            shape = tuple(map(int, sizes.split("x"))) if sizes else ()
            if not self.peek("]"):
                self.expect(",")
        self.blank()
        word = NAME.match(self.text, self.at)
        if word and word.group() in SPACES and not self.text.startswith("[", word.end()):
            self.at, rows = word.end(), word.group()
            if not self.peek("]"):
                self.expect(",")
        if not self.peek("]"):
            found = self.literal()
            value = found[0] if found is not None else self.type()
        self.expect("]")
        return Other(kind, rows=rows, shape=shape, value=value)

    def _irreps(self, space: Space, start: int) -> IrrepsType:
        self.expect("[")
        end = self.text.find("]", self.at)
        if end < 0:
            self.fail("']' after the irreps")
        irreps, _, layout = self.text[self.at : end].partition(" ")
        self.at = end + 1
        try:
            return IrrepsType.parse(irreps, space, Layout(layout) if layout else Layout.MUL_IR)
        except (IrpruneError, ValueError) as error:
            self.error(str(error), start)
