"""Running a model on atoms: energies, forces and stress, an ASE calculator, error metrics.

Import from the submodules; all of them need torch.
"""
