"""Generated Triton kernels for GPUs. Importing this package needs neither triton nor a device."""
