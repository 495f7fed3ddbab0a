"""A pass in twenty lines."""

from dataclasses import dataclass

from irprune.passmanager import Pass


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Rounds the mantissa of every weight to a number of bits."""

    name = "round-weights"
    summary = "weights with fewer bits"
    trait = "approximate(weights are rounded)"

    bits: int = 12

    def run(self, graph, context):
        import torch

        small = graph.module()
        with torch.no_grad():
            for weight in small.parameters():
                mantissa, exponent = torch.frexp(weight)
                weight.copy_(
                    torch.ldexp((mantissa * 2**self.bits).round() / 2**self.bits, exponent)
                )
        return graph.replace(gm=small)
