"""Kernels for NVIDIA GPUs in Triton: `softmax` and `attention`. `configs` chooses their tiles, `build` compiles ahead of time.

They need only this folder of Headway, and triton; torch as well where they are called on tensors.
"""
