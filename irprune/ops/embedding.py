"""``torch.nn.Embedding``: rows of a table, chosen by an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from irprune.errors import UnknownForm
from irprune.irreps import IrrepsType, Space
from irprune.ops.base import Cost, Keep, Other, Site, WeightRows, register_op
from irprune.ops.frozen import Whole
from irprune.ops.linear import pick


@register_op
class Embedding(Whole):
    """An index per row → scalars; every column of the table can go on its own."""

    name = "embedding"
    targets = ("torch.nn.modules.sparse.Embedding",)

    def infer(self, site: Site) -> Any:
        m, t = site.module, site.types[0]
        assert isinstance(m, nn.Embedding)
        if not isinstance(t, Other) or t.kind != "index" or m.max_norm is not None:
            raise UnknownForm(
                f"{site.where}: known is an embedding without max_norm of an index per row, got {t}"
            )
        return IrrepsType.scalars(m.embedding_dim, Space(t.rows or "any"))

    def slice(self, site: Site, keep: Keep) -> nn.Module | None:
        m = site.module
        assert isinstance(m, nn.Embedding)
        small = self.build(
            {"n": m.num_embeddings, "dim": int(keep.result.sum()), "padding": m.padding_idx}
        )
        assert isinstance(small, nn.Embedding)
        weight = pick(m.weight.detach(), np.ones(m.num_embeddings, bool), keep.result)
        small.weight = nn.Parameter(weight, m.weight.requires_grad)
        return small

    def cost(self, site: Site, keep: Keep) -> Cost:
        assert isinstance(site.module, nn.Embedding)
        return Cost(site.module.num_embeddings * int(keep.result.sum()))

    def weight_rows(self, site: Site) -> WeightRows | None:
        assert isinstance(site.module, nn.Embedding)
        return WeightRows(out=[site.module.weight.detach().double().cpu().numpy().T])

    def spec(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, nn.Embedding)
        return {
            "n": module.num_embeddings,
            "dim": module.embedding_dim,
            "padding": module.padding_idx,
        }

    def build(self, spec: dict[str, Any]) -> nn.Module:
        return nn.Embedding(int(spec["n"]), int(spec["dim"]), padding_idx=spec["padding"])

    def reference(self, site: Site, args: tuple[Any, ...]) -> Any:
        assert isinstance(site.module, nn.Embedding)
        one_hot = torch.eye(site.module.num_embeddings, dtype=site.module.weight.dtype)[args[0]]
        return one_hot @ site.module.weight
