"""Targets: each writes the canonical graph its own way. None changes what the model computes."""
