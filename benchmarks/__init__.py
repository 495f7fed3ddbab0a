"""Benchmarks: problems with real shapes, runners, committed results. Run from the repository."""
