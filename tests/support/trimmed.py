"""The text by which tests trim a vocabulary."""

import random

CORPUS = ["the model runs small heads", "a layer of text and bread", "time of rain with the large price"]


def corpus_lines(count: int = 60, seed: int = 0, words: str = " ".join(CORPUS)) -> list[str]:
    """Return lines, each another, of the words given."""
    rng = random.Random(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        lines[" ".join(rng.choices(words.split(), k=rng.randint(6, 12)))] = None
    return list(lines)
