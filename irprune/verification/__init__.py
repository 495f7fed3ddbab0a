"""The verification ladder: checks, their tolerances, and the rungs."""
