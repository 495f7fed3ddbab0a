"""Options of the command line from the fields of a dataclass: names, types, defaults and help."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from irprune.options import Option, alternatives, help_of, options_of

F = TypeVar("F", bound=Callable[..., Any])


def field_options(cls: type, leave_out: Collection[str] = ()) -> Callable[[F], F]:
    """A decorator that gives a verb one option per field; the values come under the fields' names."""
    texts = help_of(cls)

    def decorate(function: F) -> F:
        for option in reversed(options_of(cls)):
            if option.field not in leave_out:
                function = _option(option, texts.get(option.field, ""))(function)
        return function

    return decorate


def _option(option: Option, text: str) -> Callable[[F], F]:
    kinds = [k for k in alternatives(option.kind) if k is not type(None)]
    (kind,) = kinds
    values = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return click.option(
        f"--{option.name}",
        option.field,
        type=click.Choice([str(v) for v in values]) if values else kind,
        default=option.default,
        show_default=option.default is not None,
        help=text[:1].upper() + text[1:],
    )
