"""Pipelines: the same thing as text, as Python objects and as YAML.

    score{by=energy-force,probes=4},select{keep=0.5},slice,rewrite-tp

Options that have their default value are not printed. Order is the user's: requirements are
checked, nothing is moved or added.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irprune.errors import PipelineError
from irprune.options import BARE, BadValue, Quoted, build, convert, options_of
from irprune.passbase import Pass, find_pass, providers

_NAME = re.compile(r"[A-Za-z][\w-]*")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run."""

    passes: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        for p in self.passes:
            for option in options_of(type(p)):
                try:
                    convert(_as_raw(getattr(p, option.field)), option.kind)
                except BadValue as error:
                    raise PipelineError(f"pass {p.name}, option {option.name}: {error}") from None

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Reads pipeline text.

        Raises:
            PipelineError: syntax (with the position), an unknown pass or option, a wrong type.
        """
        return cls(_Reader(text).pipeline())

    @classmethod
    def from_yaml(cls, text: str) -> Pipeline:
        """Reads a recipe: a list of passes, or a mapping with the list under ``passes``."""
        import yaml

        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PipelineError(f"the recipe is not YAML: {' '.join(str(error).split())}") from None
        if isinstance(data, dict) and set(data) == {"passes"}:
            data = data["passes"]
        if data is None:
            data = []
        if not isinstance(data, list):
            raise PipelineError(
                "a recipe is a list of passes, or a mapping with one key `passes`; got"
                f" {sorted(data) if isinstance(data, dict) else data!r}"
            )
        return cls(tuple(_from_item(item) for item in data))

    @classmethod
    def of(cls, value: Pipeline | Pass | str | Path | Iterable[Pass]) -> Pipeline:
        """From whatever a user hands over: text, a path to a YAML recipe, passes, a pipeline.

        Raises:
            PipelineError: it does not parse, has no pass, or is none of these.
        """
        if isinstance(value, Pipeline):
            return value
        found = cls._of(value)
        if not found.passes:
            what = (
                f"{str(value)!r} has none" if isinstance(value, str | Path) else "the list is empty"
            )
            raise PipelineError(
                f"a pipeline has at least one pass, but {what}; `irprune passes` lists them"
            )
        return found

    @classmethod
    def _of(cls, value: Pass | str | Path | Iterable[Pass]) -> Pipeline:
        if isinstance(value, Pass):
            return cls((value,))
        if isinstance(value, str):
            return cls._read(Path(value)) if _is_recipe(value) else _parse_named(value)
        if isinstance(value, Path):
            return cls._read(value)
        passes = tuple(value)
        for p in passes:
            if not isinstance(p, Pass):
                raise PipelineError(
                    f"a pipeline is text, a recipe's path or a list of passes, got {p!r} in a list;"
                    " write names and options as one text: 'score,select{keep=0.5},slice'"
                )
        return cls(passes)

    @classmethod
    def _read(cls, path: Path) -> Pipeline:
        """A recipe in a file."""
        try:
            return cls.from_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise PipelineError(f"cannot read the recipe {path}: {reason}") from None

    def text(self) -> str:
        return ",".join(p.text() for p in self.passes)

    __str__ = text

    def to_yaml(self) -> str:
        """The recipe as YAML; ``from_yaml`` reads it back."""
        import yaml

        items: list[Any] = []
        for p in self.passes:
            options = {o.name: _plain(getattr(p, o.field)) for o in p.changed_options()}
            items.append({p.name: options} if options else p.name)
        return yaml.safe_dump({"passes": items}, sort_keys=False, default_flow_style=None)

    def check(self, facts: Iterable[str] = ()) -> frozenset[str]:
        """Checks that each pass finds the facts that it requires, and none that it refuses.

        Returns:
            The facts at the end.

        Raises:
            PipelineError: names the pass, the fact, and the passes that provide it or what to do.
        """
        have = set(facts)
        lost: dict[str, str] = {}
        source: dict[str, str] = {}
        for p in self.passes:
            for fact in p.refuses:
                if fact in have:
                    raise PipelineError(_refused(p, fact, source.get(fact)))
            for fact in p.requires:
                if fact not in have:
                    raise PipelineError(_missing(p, fact, lost.get(fact)))
            for fact in p.invalidates:
                have.discard(fact)
                lost[fact] = p.name
            have.update(p.provides)
            source.update(dict.fromkeys(p.provides, p.name))
        return frozenset(have)

    def __len__(self) -> int:
        return len(self.passes)


def _is_recipe(text: str) -> bool:
    """Whether text is the path of a recipe, and no pipeline."""
    return text.strip().endswith((".yaml", ".yml"))


def _parse_named(text: str) -> Pipeline:
    """Reads pipeline text; a file that is named like no recipe is told so."""
    try:
        return Pipeline.parse(text)
    except PipelineError as error:
        if not os.path.isfile(text):
            raise
        raise PipelineError(
            f"{text} is a file, but the name of a recipe ends in .yaml or .yml; rename it (read as the"
            f" text of a pipeline: {error})"
        ) from None


def _missing(p: Pass, fact: str, lost_to: str | None) -> str:
    names = [n for n in providers(fact) if n != p.name]
    remedy = f"add one of: {', '.join(names)}" if names else "no registered pass provides it"
    if lost_to is not None:
        return f"{p.name} needs {fact!r}, which {lost_to} before it invalidates; {remedy}"
    return f"{p.name} needs {fact!r}, which none of the passes before it provides; {remedy}"


REFUSALS = {
    "masks": "blocks are selected but not removed, and {name} heeds no selection; run slice before it",
    "lowered": "{by} has rewritten ops for speed, and these keep all their blocks; run {name} before",
}
"""Fact → why a pass refuses a graph that has it, and what to do."""


def _refused(p: Pass, fact: str, by: str | None) -> str:
    text = REFUSALS.get(fact, "the graph has {fact!r}, which {name} refuses")
    if fact == "masks" and fact in p.provides:
        text += ", or choose all at once, as in {name}{{axes=[channel,radial]}}"
    return f"{p.name}: " + text.format(name=p.name, fact=fact, by=by or "an exact pass")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_raw(value: Any) -> Any:
    """A Python value, marked so that text is not read as a number."""
    if isinstance(value, tuple):
        return [_as_raw(v) for v in value]
    return Quoted(value) if isinstance(value, str) else value


def _from_item(item: Any) -> Pass:
    """A pass from one element of a recipe: a name, or ``{name: {option: value}}``."""
    name: Any
    options: Any
    if isinstance(item, str):
        name, options = item, {}
    elif isinstance(item, dict) and len(item) == 1:
        ((name, options),) = item.items()
        options = {} if options is None else options
    else:
        raise PipelineError(f"a recipe has pass names or name: {{options}}, got {item!r}")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise PipelineError(f"pass {name!r} of the recipe: options are a mapping, got {options!r}")
    cls = find_pass(name)
    kinds = {o.name: o.kind for o in options_of(cls)}
    raw = {
        str(key): _from_yaml(value, kinds.get(str(key).replace("_", "-")))
        for key, value in options.items()
    }
    built: Pass = build(cls, name, raw)
    return built


def _from_yaml(value: Any, kind: Any) -> Any:
    """YAML has types of its own; only what it leaves as text (``1e-3``) may still be a number."""
    if isinstance(value, list):
        return [_from_yaml(v, None) for v in value]
    if isinstance(value, str) and kind is not None:
        try:
            convert(Quoted(value), kind)
        except BadValue:
            return value
        return Quoted(value)
    return value


class _Reader:
    """Recursive descent over pipeline text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, expected: str) -> PipelineError:
        rest = self.text[self.at : self.at + 20]
        got = f"{rest!r}" if rest else "the end"
        return PipelineError(
            f"cannot read the pipeline {self.text!r}: expected {expected} at position {self.at},"
            f" got {got}; the form is name{{option=value,…}},name,… and text with commas, brackets,"
            " quotes or spaces stands in double quotes"
        )

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def take(self, mark: str) -> bool:
        self.skip()
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def name(self, what: str) -> str:
        self.skip()
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail(what)
        self.at = match.end()
        return match.group()

    def pipeline(self) -> tuple[Pass, ...]:
        self.skip()
        if self.at == len(self.text):
            return ()
        out = [self.one()]
        while self.take(","):
            out.append(self.one())
        self.skip()
        if self.at != len(self.text):
            raise self.fail("a comma or the end")
        return tuple(out)

    def one(self) -> Pass:
        name = self.name("the name of a pass")
        raw: dict[str, Any] = {}
        if self.take("{") and not self.take("}"):
            while True:
                key = self.name("the name of an option")
                if not self.take("="):
                    raise self.fail(f"= after the option {key}")
                if key in raw:
                    raise PipelineError(f"pass {name}: the option {key} is given twice")
                raw[key] = self.value()
                if self.take("}"):
                    break
                if not self.take(","):
                    raise self.fail("a comma or }")
        built: Pass = build(find_pass(name), name, raw)
        return built

    def value(self) -> Any:
        self.skip()
        if self.take("["):
            items: list[Any] = []
            if self.take("]"):
                return items
            while True:
                items.append(self.value())
                if self.take("]"):
                    return items
                if not self.take(","):
                    raise self.fail("a comma or ]")
        if self.text.startswith('"', self.at):
            try:
                value, self.at = json.JSONDecoder(strict=False).raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                raise self.fail("a string that ends with a double quote") from None
            return Quoted(value)
        match = BARE.match(self.text, self.at)
        if match is None:
            raise self.fail("a value")
        self.at = match.end()
        return match.group()
