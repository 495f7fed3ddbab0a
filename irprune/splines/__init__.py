"""Functions of one variable as piecewise polynomials, with bounds on what that misses."""
