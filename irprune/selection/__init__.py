"""Selection: which groups go, so that the rest is a structure that the target can express.

Groups that a target ties (MACE has one channel count over all orders and layers) are ranked axis
by axis and joined rank by rank into *steps*: removing a step removes the least important group of
every tied axis. What is not tied is a step of its own. Everything else is a choice among steps.
"""

from irprune.selection.bounds import Bounds, read_minimum
from irprune.selection.budget import choose_budget, choose_fraction
from irprune.selection.counts import check_kept, check_ties, choose_counts
from irprune.selection.orders import cut_orders
from irprune.selection.pools import KINDS, SCOPES, Pools, Step, kept_after, orders_off, removed_mask

__all__ = [
    "KINDS",
    "SCOPES",
    "Bounds",
    "Pools",
    "Step",
    "check_kept",
    "check_ties",
    "choose_budget",
    "choose_counts",
    "choose_fraction",
    "cut_orders",
    "kept_after",
    "orders_off",
    "read_minimum",
    "removed_mask",
]
