"""Winning back accuracy after a lossy pass. Import from the submodules."""
