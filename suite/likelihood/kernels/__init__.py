"""Triton kernels; each has a twin in plain PyTorch with the same signature."""
