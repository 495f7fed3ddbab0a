"""Constants and parameters per component, brought into a form that slicing can cut.

Code between layers multiplies irreps by masks: ``x * mask``, or ``x * ((1 - mask) + alpha * mask)``
with one scalar alpha per row (e3nn's gate_points networks). A mask is as wide as x, so cutting x
would leave it behind. Here every product of irreps with

    c₀ + Σ αₖ cₖ    (cₖ [dim] constants, αₖ [rows, 1] scalars)

is written out as Σ αₖ (cₖ ∘ x), where ``cₖ ∘`` is a ComponentScale module, nothing where cₖ is all
ones, and no term where it is all zeros. Parameters [dim] that multiply or shift scalars become the
parameter of such a module.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from irprune.errors import IrrepsTypeError
from irprune.infer import infer_site, infer_sites
from irprune.irreps import IrrepsType, Layout
from irprune.layers.scale import ComponentScale, ComponentShift
from irprune.ops.base import UNKNOWN, Other, Site
from irprune.ops.operands import is_single
from irprune.ops.scale import one_per_unit

Form = dict[fx.Node | None, Tensor]
"""Coefficients [dim] of 1 (key None) and of scalars per row."""

_ADD = (operator.add, torch.add, "add")
_SUB = (operator.sub, torch.sub, "sub")
_MUL = (operator.mul, torch.mul, "mul")
_DIV = (operator.truediv, torch.div, "div")
_NEG = (operator.neg, torch.neg, "neg")


def sliceable_scales(gm: fx.GraphModule, inputs: Mapping[str, Any]) -> None:
    """Rewrites products and sums of irreps with constants and parameters per component."""
    _Rewriter(gm, inputs).run()
    gm.graph.eliminate_dead_code()
    gm.recompile()


class _Rewriter:
    def __init__(self, gm: fx.GraphModule, inputs: Mapping[str, Any]) -> None:
        self.gm = gm
        self.inputs = inputs
        self.first = infer_sites(gm, inputs, tolerant=True)
        self.sites: dict[str, Site] = {}
        self.forms: dict[fx.Node, Form] = {}
        self.modules: dict[tuple[str, type], str] = {}

    def run(self) -> None:
        for node in list(self.gm.graph.nodes):
            form = self._form(node)
            if form is not None and _width(form) > 1:
                self.forms[node] = form
            elif node.op != "output":
                self._rewrite(node)
            self._infer(node)

    def _infer(self, node: fx.Node) -> None:
        try:
            site = infer_site(self.gm, node, self.sites, self.inputs)
        except IrrepsTypeError:  # reported with the finished graph, if it stays
            site = Site(node, None, (), (), UNKNOWN)
        if site.out == UNKNOWN and node.name in self.first:
            site = self.first[node.name]  # typed by what reads it
        self.sites[node.name] = site

    def _type(self, x: Any) -> Any:
        return self.sites[x.name].out if isinstance(x, fx.Node) else None

    def _form(self, node: fx.Node) -> Form | None:
        """A value that no irreps enter but scalars per row, times constants per component."""
        if node.op == "get_attr":
            value = _attribute(self.gm, str(node.target))
            fits = torch.is_tensor(value) and not isinstance(value, nn.Parameter)
            if (
                not fits
                or not value.is_floating_point()
                or value.numel() != value.shape[-1:].numel()
            ):
                return None
            return {None: value.detach().reshape(-1)} if value.dim() else None
        if not node.op.startswith("call") or node.op == "call_module" or node.kwargs:
            return None
        if not any(isinstance(a, fx.Node) and a in self.forms for a in node.args):
            return None
        parts = [self._operand(a) for a in node.args]
        if any(p is None for p in parts):
            return None
        return _combine(node, [p for p in parts if p is not None])

    def _operand(self, a: Any) -> Form | None:
        if isinstance(a, (int, float)):
            return {None: torch.tensor([float(a)], dtype=torch.float64)}
        if not isinstance(a, fx.Node):
            return None
        if a in self.forms:
            return self.forms[a]
        t = self._type(a)
        if is_single(t) and t.layout is Layout.MUL_IR:
            return {a: torch.ones(1, dtype=torch.float64)}
        return None

    def _rewrite(self, node: fx.Node) -> None:
        if len(node.args) != 2 or node.kwargs or not all(isinstance(a, fx.Node) for a in node.args):
            return
        x, y = node.args
        constant = x in self.forms or not isinstance(self._type(x), IrrepsType)
        if constant and node.target in (*_MUL, *_ADD):
            x, y = y, x
        t = self._type(x)
        if not isinstance(t, IrrepsType) or t.layout is not Layout.MUL_IR:
            return
        assert isinstance(x, fx.Node) and isinstance(y, fx.Node)
        with self.gm.graph.inserting_before(node):
            made = self._by_parameter(node, x, y, t) or self._by_form(node, x, y, t)
        if made is not None:
            node.replace_all_uses_with(made)

    def _by_parameter(self, node: fx.Node, x: fx.Node, y: fx.Node, t: IrrepsType) -> fx.Node | None:
        p = self._type(y)
        if y.op != "get_attr" or not isinstance(p, Other) or t.dim != t.n_units or t.dim == 1:
            return None
        value = _attribute(self.gm, str(y.target))
        if tuple(value.shape) not in ((t.dim,), (1, t.dim)) or not isinstance(value, nn.Parameter):
            return None
        if value.dim() == 2:
            return None  # the parameter itself has another shape than the module's
        if node.target in _MUL:
            return self._call(ComponentScale, value, x, node, str(y.target))
        if node.target in _ADD:
            return self._call(ComponentShift, value, x, node, str(y.target))
        return None

    def _by_form(self, node: fx.Node, x: fx.Node, y: fx.Node, t: IrrepsType) -> fx.Node | None:
        form = self.forms.get(y)
        if form is None or _width(form) != t.dim or t.dim == 1:
            return None
        if not all(one_per_unit(t, c) for c in form.values() if c.numel() > 1):
            return None
        only = form.get(None) if set(form) == {None} else None
        if node.target in _DIV and only is not None and bool((only != 0).all()):
            return self._product(node, x, {None: 1 / only})
        if node.target in _MUL:
            return self._product(node, x, form)
        if node.target in (*_ADD, *_SUB) and only is not None and t.dim == t.n_units:
            if node.target in _SUB and node.args[0] is not x:
                return None
            return self._call(ComponentShift, only if node.target in _ADD else -only, x, node)
        return None

    def _product(self, node: fx.Node, x: fx.Node, form: Form) -> fx.Node:
        terms = []
        for key, c in form.items():
            if bool((c == 0).all()):
                continue
            term = x if bool((c == 1).all()) else self._call(ComponentScale, c, x, node)
            if key is not None:
                term = self._made(self.gm.graph.call_function(operator.mul, (term, key)), node)
            terms.append(term)
        if not terms:
            zero = torch.zeros(_width(form), dtype=next(iter(form.values())).dtype)
            return self._call(ComponentScale, zero, x, node)
        total = terms[0]
        for term in terms[1:]:
            total = self._made(self.gm.graph.call_function(operator.add, (total, term)), node)
        return total

    def _call(
        self,
        kind: type[ComponentScale],
        values: Tensor,
        x: fx.Node,
        like: fx.Node,
        shared: str | None = None,
    ) -> fx.Node:
        """A new module with the values, or the one that already holds this parameter."""
        path = self.modules.get((shared, kind)) if shared is not None else None
        if path is None:
            word = "scale" if kind is ComponentScale else "shift"
            path = next(p for i in range(10**6) if not hasattr(self.gm, p := f"{word}_{i}"))
            values = values if isinstance(values, nn.Parameter) else values.clone()
            self.gm.add_submodule(path, kind(values).eval())
            if shared is not None:
                self.modules[shared, kind] = path
        return self._made(self.gm.graph.call_module(path, (x,)), like)

    def _made(self, made: fx.Node, like: fx.Node) -> fx.Node:
        made.meta.update({k: v for k, v in like.meta.items() if k == "source"})
        self._infer(made)
        return made


def _width(form: Form) -> int:
    return max(c.numel() for c in form.values())


def _combine(node: fx.Node, parts: list[Form]) -> Form | None:
    if node.target in _NEG and len(parts) == 1:
        return {k: -c for k, c in parts[0].items()}
    if len(parts) != 2:
        return None
    a, b = parts
    if node.target in (*_ADD, *_SUB):
        sign = 1.0 if node.target in _ADD else -1.0
        n = math.lcm(_width(a), _width(b))
        keys = [*a, *(k for k in b if k not in a)]
        zero = torch.zeros(n, dtype=_dtype(a, b))
        return {k: a.get(k, zero).to(zero) + sign * b.get(k, zero).to(zero) for k in keys}
    if node.target in _MUL:
        if set(a) != {None}:
            a, b = b, a
        if set(a) == {None}:
            return {k: (a[None].to(_dtype(a, b)) * c.to(_dtype(a, b))) for k, c in b.items()}
    if node.target in _DIV and set(b) == {None} and bool((b[None] != 0).all()):
        return {k: c.to(_dtype(a, b)) / b[None].to(_dtype(a, b)) for k, c in a.items()}
    return None


def _dtype(*forms: Form) -> torch.dtype:
    """The dtype of the wide coefficients; numbers and scalars per row follow them."""
    wide = [c.dtype for f in forms for c in f.values() if c.numel() > 1]
    return wide[0] if wide else torch.float64


def _attribute(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root
