"""Decide whether a bundle may be shipped: scenarios, noise, intervals, quality on labels, gates and their verdict."""
