"""cuEquivariance as a backend: a descriptor of the kept paths, run by ``cuequivariance_torch``."""
