"""Parts of the canonical form in which model families differ."""
