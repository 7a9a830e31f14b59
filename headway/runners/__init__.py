"""Run an opened artifact on batches of token ids: one module for each runtime."""
