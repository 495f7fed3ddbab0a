"""The same model on compiled kernels, against the family's stock calculator."""
