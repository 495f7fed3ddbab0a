"""Options of a pass: typed values, read from and written to text.

A value in pipeline text is a bare word (``energy-force``, ``0.5``, ``true``, ``none``), a quoted
string (JSON escapes) or a list (``[a,b]``). Which one is meant is decided by the annotation of the
dataclass field, so that ``parse`` after ``print`` is the identity.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from typing import Any, Literal, Union

from irprune.errors import PipelineError

BARE = re.compile(r"""[^\s,{}\[\]"']+""")
"""What may stand in pipeline text without quotes."""

_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_INT = re.compile(r"[+-]?\d+")


class Quoted(str):
    """A string that stood in quotes: never read as a number or a word."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a pass, as the user writes it."""

    name: str
    field: str
    kind: Any
    default: Any
    help: str = ""

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    def __str__(self) -> str:
        tail = "" if self.required else f" = {format_value(self.default, self.kind)}"
        return f"{self.name}: {describe(self.kind)}{tail}"


def options_of(cls: Any) -> tuple[Option, ...]:
    """The options of a pass class: its dataclass fields, dashes for underscores."""
    if not dataclasses.is_dataclass(cls):
        return ()
    hints = typing.get_type_hints(cls)
    out = []
    for f in dataclasses.fields(cls):
        if not f.init:
            continue
        default: Any = f.default
        factory: Any = f.default_factory
        if default is dataclasses.MISSING and factory is not dataclasses.MISSING:
            default = factory()
        name = f.name.rstrip("_").replace("_", "-")
        out.append(Option(name, f.name, hints[f.name], default, f.metadata.get("help", "")))
    return tuple(out)


def help_of(cls: type) -> dict[str, str]:
    """Field → the text below it in the source of the class and its bases, in one line."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in itertools.pairwise(body.body):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    out[field.target.id] = " ".join(str(text.value.value).split())
    return out


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        return tuple(a for member in typing.get_args(kind) for a in alternatives(member))
    return (kind,)


def describe(kind: Any) -> str:
    """The type in a user's words."""
    names: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "none",
    }
    out = []
    for alt in alternatives(kind):
        if typing.get_origin(alt) is Literal:
            out.append("|".join(format_value(v, type(v)) for v in typing.get_args(alt)))
        elif typing.get_origin(alt) is tuple:
            out.append(f"list [of {describe(typing.get_args(alt)[0])}]")
        else:
            out.append(names.get(alt, getattr(alt, "__name__", str(alt))))
    return " or ".join(out)


class BadValue(Exception):
    """A value does not fit the annotation; the caller adds pass and option."""


def convert(raw: Any, kind: Any) -> Any:
    """A raw value (bare word, ``Quoted``, list, or a YAML or Python scalar) as the annotated type.

    Raises:
        BadValue: it does not fit.
    """
    for alt in sorted(alternatives(kind), key=_precedence):
        fits, value = _fit(raw, alt)
        if fits:
            return value
    raise BadValue(f"expected {describe(kind)}, got {_show(raw)}")


def _precedence(alt: Any) -> int:
    """Narrow types are tried before wide ones."""
    order: list[Any] = [type(None), bool, int, float]
    if alt in order:
        return order.index(alt)
    return 9 if alt is str else 5


def _show(raw: Any) -> str:
    return repr(str(raw)) if isinstance(raw, str) else repr(raw)


def _fit(raw: Any, alt: Any) -> tuple[bool, Any]:
    if typing.get_origin(alt) is tuple:
        if not isinstance(raw, list | tuple):
            return False, None
        item = typing.get_args(alt)[0]
        try:
            return True, tuple(convert(r, item) for r in raw)
        except BadValue:
            return False, None
    if isinstance(raw, list | tuple):
        return False, None
    if typing.get_origin(alt) is Literal:
        return next(
            ((True, v) for v in typing.get_args(alt) if _fit(raw, type(v)) == (True, v)),
            (False, None),
        )
    if alt is str:
        return isinstance(raw, str), str(raw)
    if isinstance(raw, Quoted):
        return False, None
    value = _word(raw, alt) if isinstance(raw, str) else raw
    if alt in (bool, type(None)):
        return type(value) is alt, value
    if alt is int:
        return type(value) is int, value
    if alt is float:
        return type(value) in (int, float), float(value) if type(value) in (int, float) else None
    return False, None


def _word(raw: str, alt: Any) -> Any:
    """A bare word as the literal it spells, or the word itself."""
    if raw in _WORDS:
        return _WORDS[raw]
    if _INT.fullmatch(raw):
        return int(raw)
    if alt is float:
        try:
            return float(raw) if "_" not in raw else raw
        except ValueError:
            return raw
    return raw


def format_value(value: Any, kind: Any) -> str:
    """The text of a value; ``convert`` of what it parses to gives the value back.

    Raises:
        BadValue: the value is not of the annotated type.
    """
    if isinstance(value, list | tuple):
        items = next(
            (typing.get_args(a)[0] for a in alternatives(kind) if typing.get_origin(a) is tuple),
            str,
        )
        return "[" + ",".join(format_value(v, items) for v in value) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and float in alternatives(kind) and int not in alternatives(kind):
        value = float(value)
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        raise BadValue(f"expected {describe(kind)}, got {value!r}")
    if BARE.fullmatch(value):
        try:
            back = convert(value, kind)
        except BadValue:
            back = None
        if type(back) is str and back == value:
            return value
    return json.dumps(value, ensure_ascii=False)


def build(cls: type, name: str, raw: dict[str, Any]) -> Any:
    """An instance of a pass class from option names and raw values.

    Raises:
        PipelineError: an unknown or missing option, or a value of the wrong type.
    """
    options = {o.name: o for o in options_of(cls)}
    listed = f" (options: {', '.join(map(str, options.values())) or 'it has none'})"
    values: dict[str, Any] = {}
    for key, value in raw.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            near = difflib.get_close_matches(key, options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise PipelineError(f"pass {name} has no option {key!r}{hint}{listed}")
        try:
            values[option.field] = convert(value, option.kind)
        except BadValue as error:
            raise PipelineError(f"pass {name}, option {option.name}: {error}{listed}") from None
    missing = [o.name for o in options.values() if o.required and o.field not in values]
    if missing:
        raise PipelineError(
            f"pass {name} needs the option {missing[0]}: write {name}{{{missing[0]}=…}}{listed}"
        )
    return cls(**values)
