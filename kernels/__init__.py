"""Fused softmax kernels: `reference` states what they compute, `cpu` and `triton` compute it."""
