"""OpenEquivariance as a backend, where it is installed."""
