"""Carry the tokenizer onto devices and check that it gives the same ids."""
