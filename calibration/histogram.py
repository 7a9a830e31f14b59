"""Count activations in histograms that merge in any order, and read ranges from them by the four usual methods.

Bins have the width `2**exponent`, with integer multiples of it as edges and bin 0 around zero. When activations outgrow the
grid, neighboring bins are joined in pairs; the exponent depends on the largest magnitude alone. So counts are exact integers,
and adding or merging in any order gives the same histogram. A threshold read from it is at most one bin off, and a bin is at
most `1 / 2048` of the largest magnitude.
"""

import threading
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import UsageError

BINS = 4096
"""Bins on each side of zero; the one around zero is shared."""

Method = Literal["min-max", "percentile", "entropy", "mse"]

_SIZE = 2 * BINS - 1
_LOG_BINS = BINS.bit_length() - 1
_LEAST = -120
"""Magnitudes below 2**(-120) all fall into bin 0: the grid is never finer."""
_COARSE = 2048
_STRETCH = 32_768
_SHRINKS = 192


def exponent_for(largest: float) -> int:
    """Return the exponent of the finest grid that holds magnitudes up to `largest`."""
    return max(int(np.frexp(np.float64(largest))[1]) - _LOG_BINS, _LEAST) if largest > 0 else _LEAST


class _Scratch(threading.local):
    """Memory for one stretch of activations, which stays in the processor's cache: new arrays would take several times as long."""

    def __init__(self) -> None:
        self.scaled = np.empty(_STRETCH, np.float32)
        self.truncated = np.empty(_STRETCH, np.int32)
        self.index = np.empty(_STRETCH, np.int64)


_SCRATCH = _Scratch()


def bin_counts(values: np.ndarray, exponent: int) -> np.ndarray:
    """Count float32 values of any shape on the grid of `exponent`, int64 `[2 * BINS - 1]`.

    Multiplying by a power of two is exact.
    """
    flat, factor = values.ravel(), np.float32(2.0**-exponent)
    counts = np.zeros(_SIZE, np.int64)
    for start in range(0, flat.size, _STRETCH):
        part = flat[start : start + _STRETCH]
        scaled, truncated, index = (a[: part.size] for a in (_SCRATCH.scaled, _SCRATCH.truncated, _SCRATCH.index))
        np.multiply(part, factor, out=scaled)
        np.copyto(truncated, scaled, casting="unsafe")
        np.add(truncated, BINS - 1, out=index)
        counts += np.bincount(index, minlength=_SIZE)
    return counts


@dataclass
class Histogram:
    """Counts int64 `[2 * BINS - 1]`: entry `BINS - 1 + i` counts numbers x with `trunc(x / 2**exponent) == i`.

    `low` and `high` are the exact minimum and maximum; inf and -inf while nothing was added.
    """

    exponent: int = _LEAST
    low: float = float("inf")
    high: float = float("-inf")
    counts: np.ndarray = field(default_factory=lambda: np.zeros(_SIZE, np.int64))

    @classmethod
    def of(cls, values: np.ndarray) -> "Histogram":
        """Return the histogram of an array of any shape, see `add`."""
        histogram = cls()
        histogram.add(values)
        return histogram

    @property
    def total(self) -> int:
        """Return how many numbers were counted."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return 2.0**self.exponent

    @property
    def largest(self) -> float:
        """Return the largest magnitude; 0 while nothing was added."""
        return max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0

    def add(self, values: np.ndarray, bounds: tuple[float, float] | None = None) -> None:
        """Count finite float32 values of any shape; `bounds` are their minimum and maximum, where known already."""
        if not values.size:
            return
        self.widen(*(bounds if bounds is not None else (float(values.min()), float(values.max()))))
        self.counts += bin_counts(values, self.exponent)

    def widen(self, low: float, high: float) -> None:
        """Extend the minimum and maximum without counting anything: enough for min-max ranges."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(exponent_for(self.largest))

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram. Order does not matter."""
        self.widen(other.low, other.high)
        self.counts += _coarser(other.counts, self.exponent - other.exponent)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and (self.exponent, self.low, self.high) == (other.exponent, other.low, other.high)
            and np.array_equal(self.counts, other.counts)
        )

    def magnitudes(self) -> np.ndarray:
        """Return counts of magnitudes, int64 `[BINS]`."""
        folded = self.counts[BINS - 1 :].copy()
        folded[1:] += self.counts[BINS - 2 :: -1]
        return folded

    def centres(self) -> np.ndarray:
        """Return the middle of every bin, float64 `[2 * BINS - 1]`; zero for the bin around zero."""
        index = np.arange(1 - BINS, BINS, dtype=np.float64)
        return (index + 0.5 * np.sign(index)) * self.width

    def range(
        self, method: Method = "min-max", *, percentile: float = 99.999, bits: int = 8, symmetric: bool = False
    ) -> tuple[float, float]:
        """Return the lowest and the highest number to represent. Zero always lies between; symmetric ranges are centered.

        `percentile`: this percentage stays inside; what is clipped is split equally between both sides (symmetric: taken from
        the magnitudes). `entropy`: the clip of magnitudes that changes their distribution least (Kullback-Leibler divergence;
        Migacz, 8-bit inference with TensorRT, 2017). `mse`: the clip with the least mean squared error of rounding and
        clipping. A value that is always zero has the range (0, 0). UsageError where nothing was counted, except for min-max.
        """
        if self.largest == 0:
            return 0.0, 0.0
        if method != "min-max" and not self.counts.any():
            raise UsageError(f"{method} ranges need histograms: observe the values with `histograms=True`")
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if method == "percentile":
            low, high = _percentile(self, percentile, symmetric)
        elif method == "entropy":
            span = 2 * self.largest if symmetric else high - low
            threshold = kl_threshold(self, int(2**bits * self.largest / span))
            low, high = max(low, -threshold), min(high, threshold)
        elif method == "mse":
            low, high = mse_range(self, bits, symmetric)
        if symmetric:
            reach = max(-low, high)
            low, high = -reach, reach
        return float(low), float(high)

    def _grow(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _coarser(self.counts, exponent - self.exponent)
            self.exponent = exponent


def _coarser(counts: np.ndarray, by: int) -> np.ndarray:
    """Return the counts with `2**by` neighboring bins joined; bins next to zero join the one around it."""
    if by <= 0:
        return counts
    if by >= _LOG_BINS:
        joined = np.zeros_like(counts)
        joined[BINS - 1] = counts.sum()
        return joined
    bins = 1 << by
    joined = np.zeros_like(counts)
    positive = counts[BINS - 1 :].reshape(-1, bins).sum(axis=1)
    negative = counts[BINS - 1 :: -1].copy()
    negative[0] = 0
    negative = negative.reshape(-1, bins).sum(axis=1)
    n = len(positive)
    joined[BINS - 1 : BINS - 1 + n] = positive
    joined[BINS - n : BINS] += negative[::-1]
    return joined


def _percentile(histogram: Histogram, percentile: float, symmetric: bool) -> tuple[float, float]:
    total, width = histogram.total, histogram.width
    if symmetric:
        inside = np.ceil(percentile / 100 * total)
        threshold = (int(np.searchsorted(np.cumsum(histogram.magnitudes()), inside)) + 1) * width
        threshold = min(threshold, histogram.largest)
        return -threshold, threshold
    cut = int(np.floor((100 - percentile) / 200 * total))
    upward = int(np.searchsorted(np.cumsum(histogram.counts), cut, side="right")) - (BINS - 1)
    downward = (BINS - 1) - int(np.searchsorted(np.cumsum(histogram.counts[::-1]), cut, side="right"))
    low = max((upward - (upward <= 0)) * width, histogram.low)
    high = min((downward + (downward >= 0)) * width, histogram.high)
    return min(low, 0.0), max(high, 0.0)


def kl_threshold(histogram: Histogram, levels: int = 128) -> float:
    """Return the magnitude at which clipping changes the distribution of magnitudes least.

    Every clip from `levels` to 2,048 bins is tried. P is the clipped distribution with the rest in its last bin. Q is the same
    reduced to `levels` and spread evenly over P's bins that are not empty. Levels are runs of bins of almost equal length. A
    symmetric 8-bit range has 128 levels of magnitude; an asymmetric one has those of its longer side, all 256 where it is
    one-sided.
    """
    counts = histogram.magnitudes().reshape(_COARSE, -1).sum(axis=1).astype(np.float64)
    width = histogram.width * (BINS // _COARSE)
    used = int(np.max(np.flatnonzero(counts), initial=0)) + 1
    if used <= levels:
        return histogram.largest
    ends = np.arange(levels, used + 1)
    return min(float(ends[int(np.argmin(kl_divergences(counts, ends, levels)))]) * width, histogram.largest)


def kl_divergences(counts: np.ndarray, ends: np.ndarray, levels: int) -> np.ndarray:
    """Return KL(P‖Q) of each clip to `counts[:end]` from running sums, float64 `[ends]`; inf where Q is empty and P is not."""
    total = counts.sum()
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.concatenate([[0.0], np.cumsum(np.where(counts > 0, counts * np.log(counts), 0.0))])
        edges = (np.arange(levels + 1)[None, :] * ends[:, None]) // levels
        mass = np.diff(sums[edges], axis=1)
        occupied = np.diff(filled[edges], axis=1).astype(np.float64)
        outside = total - sums[ends]
        last = counts[ends - 1]
        occupied[:, -1] += (last == 0) & (outside > 0)
        reference = mass.copy()
        reference[:, -1] += outside
        # the last bin of P also holds what was clipped
        entropy = logs[ends] - _xlogx(last) + _xlogx(last + outside)
        cross = np.where(reference > 0, reference * np.log(mass / occupied), 0.0).sum(axis=1)
        # P sums to total, Q to what is inside
        divergence = (entropy - cross) / total - np.log(total) + np.log(sums[ends])
    return np.where(np.isfinite(divergence), divergence, np.inf)


def _xlogx(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x * np.log(np.maximum(x, 1e-300)), 0.0)


def mse_range(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
    """Return the range whose quantization to `bits` has the least mean squared error, with numbers at the middle of their bins.

    At least one number has to differ from 0.

    The range is shrunk in steps of 1/192. An asymmetric range with two sides is then shrunk on each side alone.
    """
    filled = np.flatnonzero(histogram.counts)
    values, weights = histogram.centres()[filled], histogram.counts[filled].astype(np.float64)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shrinks = np.arange(_SHRINKS, 0, -1) / _SHRINKS
    if symmetric:
        reach = max(-low, high)
        best = min(shrinks, key=lambda a: quantization_error(values, weights, -a * reach, a * reach, bits, True))
        return -best * reach, best * reach

    def error(a: float, b: float) -> float:
        return quantization_error(values, weights, a * low, b * high, bits, False)

    a = b = min(shrinks, key=lambda s: error(s, s))
    if low < 0 < high:
        a = min(shrinks, key=lambda s: error(s, b))
        b = min(shrinks, key=lambda s: error(a, s))
    return a * low, b * high


def quantization_error(
    values: np.ndarray, weights: np.ndarray, low: float, high: float, bits: int, symmetric: bool
) -> float:
    """Return the weighted mean squared error of quantizing `values` to a range with an exact zero, in float64."""
    if symmetric:
        least, most = -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1
        scale, zero = high / most, 0.0
    else:
        least, most = 0, 2**bits - 1
        scale = (high - low) / most
        zero = float(np.rint(-low / scale))
    steps = np.clip(np.rint(values / scale) + zero, least, most) - zero
    return float(np.average(np.square(values - steps * scale), weights=weights))
