"""Change canonical models: each pass makes a model smaller or cheaper and leaves it canonical."""
