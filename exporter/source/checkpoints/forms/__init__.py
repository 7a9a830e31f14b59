"""Readers of compressed forms: one module for each, found by its place here."""
