"""Pictures of graphs: boxes laid out by layer, treemaps, a tree for terminals. Nothing here needs torch
but what reads a graph (``build``).
"""
