"""The textual IR: a graph as lines that people read and that ``parse`` reads back.

``Listing`` is what a text says; ``Listing.of`` makes it of a graph, ``str`` prints it and
``parse`` gives it back. Tensors are not in it: a line names them by path, dtype and shape.
"""

from __future__ import annotations

from irprune.text.build import listing_of
from irprune.text.groups import print_barrier, print_groups
from irprune.text.listing import Listing
from irprune.text.parse import parse

__all__ = ["Listing", "listing_of", "parse", "print_barrier", "print_groups"]
