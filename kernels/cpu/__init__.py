"""Kernels for the CPU: C++ generated for one spec, compiled once, kept in a cache on disk."""
