"""Specs: what a kernel has to compute, as frozen values that can be printed and evaluated."""
