"""What Saturation means for irreps."""

import torch
from torch import nn

from irprune.ops.base import Cost, OpDef, qualified, register_op
from irprune.ops.linear import kept_irreps, segment_masks
from saturation.layer import Saturation


@register_op
class SaturationOp(OpDef):
    """Each block divided by a function of its own norm."""

    name = "saturation"
    targets = (qualified(Saturation),)

    def infer(self, site):
        return site.expect(0, str(site.module.irreps_in))

    def slice(self, site, keep):
        old, mask = site.module, keep.operand(0)
        small = Saturation(kept_irreps(old.irreps_in, segment_masks(old.irreps_in, mask))[0])
        small.weight = nn.Parameter(old.weight.detach()[torch.from_numpy(mask)])
        return small

    def cost(self, site, keep):
        mask = keep.operand(0)
        return Cost(int(mask.sum()), 4.0 * float(site.irreps(0).components(mask).sum()))

    def spec(self, module):
        return {"irreps": str(module.irreps_in)}

    def build(self, spec):
        return Saturation(spec["irreps"])
