"""Kernels for GPUs on the layers of real models. ``python -m benchmarks.gpu.run`` checks them."""
