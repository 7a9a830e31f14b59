"""Lay a bundle out as a model repository of NVIDIA Triton: configurations, Python models, and an encoder without padding."""
