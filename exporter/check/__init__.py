"""Compare an artifact with its source and explain what differs."""
