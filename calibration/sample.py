"""A few tokens chosen by chance, and the same ones whatever the order, grouping or number of workers.

Each token of a text gets a random key that depends on the text alone; the tokens with the least keys are kept (bottom-k sampling).
So a sample of a sample and more is the sample of all, and merging is associative.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

SIZE = 256
"""Tokens of a sample."""


def token_keys(ids: np.ndarray) -> np.ndarray:
    """A key for each token of a text, uint64 `[tokens]`, drawn from its ids, int64 `[tokens]`."""
    seed = hashlib.blake2b(np.ascontiguousarray(ids, "<i8").tobytes(), digest_size=8).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    return generator.integers(0, 1 << 63, len(ids), np.uint64)


@dataclass
class Sample:
    """`keys` uint64 `[kept]`, ascending, and the activations of their tokens, float32 `[kept, channels]`."""

    channels: int
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.empty((0, self.channels), np.float32)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Offers tokens, `[tokens]` and `[tokens, channels]`."""
        if len(self.keys) == SIZE:
            better = keys < self.keys[-1]
            keys, rows = keys[better], rows[better]
        if not len(keys):
            return
        every = np.concatenate([self.keys, keys])
        least = np.argsort(every, kind="stable")[:SIZE]
        self.keys, self.rows = every[least], np.concatenate([self.rows, rows])[least]

    def merge(self, other: "Sample") -> None:
        """Takes in what another worker kept. Order does not matter."""
        self.add(other.keys, other.rows)
