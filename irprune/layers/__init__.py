"""Modules that exact passes put in the place of a family's own: the same function, less work."""
