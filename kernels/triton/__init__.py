"""The kernels for NVIDIA GPUs, in Triton: `softmax`, `attention`; `configs` says how they are tiled, `build` compiles them
ahead of time. Of Headway they need only this folder, of others triton, and torch where they are called on tensors.
"""
