"""Sample tokens at random, and the same ones whatever the order, grouping or number of workers.

Each token of a text gets a random key that depends on the text alone; the tokens with the smallest keys are kept (bottom-k
sampling). So the sample of merged samples is the sample of all tokens, and merging is associative.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

SIZE = 256
"""Tokens of a sample."""


def token_keys(ids: np.ndarray) -> np.ndarray:
    """Draw a key for each token of a text, uint64 `[tokens]`, seeded with its ids, int64 `[tokens]`."""
    seed = hashlib.blake2b(np.ascontiguousarray(ids, "<i8").tobytes(), digest_size=8).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    return generator.integers(0, 1 << 63, len(ids), np.uint64)


@dataclass
class Sample:
    """Keys uint64 `[tokens]`, ascending, and the activations of their tokens, `rows` float32 `[tokens, channels]`."""

    channels: int
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.empty((0, self.channels), np.float32)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Offer tokens: keys `[tokens]` and activations `[tokens, channels]`."""
        if len(self.keys) == SIZE:
            better = keys < self.keys[-1]
            keys, rows = keys[better], rows[better]
        if not len(keys):
            return
        all_keys = np.concatenate([self.keys, keys])
        least = np.argsort(all_keys, kind="stable")[:SIZE]
        self.keys, self.rows = all_keys[least], np.concatenate([self.rows, rows])[least]

    def merge(self, other: "Sample") -> None:
        """Add the sample of another worker. Order does not matter."""
        self.add(other.keys, other.rows)
