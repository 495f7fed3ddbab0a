"""Kernel backends. The reference backend is the traced modules themselves."""
