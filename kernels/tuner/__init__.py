"""The tuner of Triton kernels: compilation anywhere, timing on a GPU, and the cache of what was found."""
