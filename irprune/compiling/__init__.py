"""Graphs whose energies and gradient are one program of torch.compile."""
