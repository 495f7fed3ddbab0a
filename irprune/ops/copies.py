"""Copies of a value, with or without the sign turned."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from irprune.errors import UnknownForm
from irprune.ops.base import Keep, LayoutRole, OpDef, Site, register_op


@register_op
class Negate(OpDef):
    """``-x``, and copies that change nothing."""

    name = "neg"
    row_wise = True
    targets = (
        operator.neg, torch.neg, "method:neg", "method:contiguous", "method:clone", torch.clone,
        "method:to", "method:float", "method:double", "torch.nn.modules.linear.Identity",
        "torch.nn.modules.dropout.Dropout", torch.nn.functional.dropout,
    )  # fmt: skip
    ties_calls = False

    def infer(self, site: Site) -> Any:
        node = site.node
        if node.target is torch.nn.functional.dropout:
            training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
            if training is not False:
                raise UnknownForm(
                    f"{site.where} drops at random in evaluation mode too (training={training});"
                    " pass training=self.training"
                )
        return site.types[0]

    def layout_role(self, site: Site) -> LayoutRole:
        return LayoutRole.ANY

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        return site.module

    def spec(self, module: nn.Module) -> dict[str, Any]:
        return {}

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.Identity()
