"""Readers of compressed checkpoints, one for each form."""
