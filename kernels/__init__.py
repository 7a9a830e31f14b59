"""Define fused kernels: `reference` and `reference_int8` state what they compute; `cpu` and `triton` compute it."""
