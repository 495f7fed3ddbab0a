"""Layers of ``cuequivariance_torch``. Importing these ops does not import that package."""
