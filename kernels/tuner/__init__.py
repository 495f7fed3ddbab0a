"""The tuner of Triton kernels: compiled anywhere, timed on a GPU, kept in a cache."""
