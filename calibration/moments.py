"""Sum second moments exactly, so that no order, grouping or number of threads changes a bit of them.

Each text's activations are rounded to 15 bits below the power of two that holds its own largest magnitude. Products of
such integers are below 2**30; sums of up to 2**23 of them are exact in float64, whatever the order inside a matmul. There is
one sum in int64 for every power of two that occurs; they are combined at the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

BITS = 15
_ROWS = 1024
"""Tokens that are collected for one matmul."""


@dataclass
class Moments:
    """Sums over tokens by exponent: `second` int64 `[channels, channels]`, `first` int64 `[channels]`."""

    channels: int
    tokens: int = 0
    second: dict[int, np.ndarray] = field(default_factory=dict)
    first: dict[int, np.ndarray] = field(default_factory=dict)
    _waiting: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def add(self, text: np.ndarray) -> None:
        """Add the activations of one complete text: float32 `[tokens, channels]`, finite."""
        self.tokens += len(text)
        largest = float(max(text.max(initial=0.0), -text.min(initial=0.0)))
        if largest == 0.0:
            return
        exponent = int(np.frexp(np.float64(largest))[1])
        rounded = np.rint(np.ldexp(text.astype(np.float64), BITS - exponent))
        waiting = self._waiting.setdefault(exponent, [])
        waiting.append(rounded.astype(np.int32))
        if sum(map(len, waiting)) >= _ROWS:
            self._sum(exponent)

    def merge(self, other: "Moments") -> None:
        """Add the sums of another worker. Order does not matter."""
        for moments in (self, other):
            moments.finish()
        self.tokens += other.tokens
        for ours, theirs in ((self.second, other.second), (self.first, other.first)):
            for exponent, array in theirs.items():
                if exponent in ours:
                    ours[exponent] += array
                else:
                    ours[exponent] = array.copy()

    def finish(self) -> None:
        """Sum what was collected."""
        for exponent in list(self._waiting):
            self._sum(exponent)

    def second_moment(self) -> np.ndarray:
        """Return the mean of `x xᵀ` over tokens, float32 `[channels, channels]`."""
        self.finish()
        return _combined(self.second, 2, (self.channels, self.channels), self.tokens)

    def mean(self) -> np.ndarray:
        """Return the mean over tokens, float32 `[channels]`."""
        self.finish()
        return _combined(self.first, 1, (self.channels,), self.tokens)

    def _sum(self, exponent: int) -> None:
        waiting = self._waiting.pop(exponent, [])
        for rows in _portions(waiting):
            product = (rows.T @ rows).astype(np.int64)
            total = rows.sum(axis=0).astype(np.int64)
            if exponent in self.second:
                self.second[exponent] += product
                self.first[exponent] += total
            else:
                self.second[exponent], self.first[exponent] = product, total


def _portions(waiting: list[np.ndarray]) -> Iterable[np.ndarray]:
    """Yield float64 `[tokens, channels]` with few enough tokens for an exact matmul."""
    if not waiting:
        return
    rows = np.concatenate(waiting)
    for start in range(0, len(rows), 1 << 20):
        yield rows[start : start + (1 << 20)].astype(np.float64)


def _combined(sums: dict[int, np.ndarray], power: int, shape: tuple[int, ...], tokens: int) -> np.ndarray:
    total = np.zeros(shape)
    for exponent in sorted(sums):
        total += np.ldexp(sums[exponent].astype(np.float64), power * (exponent - BITS))
    return (total / max(tokens, 1)).astype(np.float32)
