"""The recipe: what a user asks for, checked before any work begins."""
