"""Structures: reading and checking them, neighbour lists, batches, label-free generation.

Import from the submodules. Only ``irprune.data.batch`` needs torch.
"""
