"""The canonical graph: how any encoder is brought to it, what it is made of, and how torch runs it."""
