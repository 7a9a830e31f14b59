"""Give percentiles of latencies with intervals that know how much neighbors in time resemble each other."""

import math
from collections.abc import Sequence

import numpy as np

from .estimates import CONFIDENCE, Estimate, t_quantile

_LEAST = 20
_LEAST_BEYOND = 5
"""So many samples have to lie beyond a percentile: the p99 of 499 samples is not given."""

_MIDDLE = 0.5
_DOUBT = 0.75
"""So many standard errors are added to how much neighbors resemble each other."""

_LEAST_EPISODES = 1
"""Noise comes in bursts: so many independent samples have to lie beyond a percentile."""

_MOST_INDEPENDENT = 2.0
"""Samples that alternate tell more than independent ones, but are not trusted to tell more than so many times as much."""


def least_samples(q: float) -> int:
    """Return how many samples the percentile `q`, from 0 to 100, needs at least."""
    part = q / 100
    return max(_LEAST, math.ceil(_LEAST_BEYOND / min(part, 1 - part) - 1e-9))


def percentile(samples: np.ndarray, q: float) -> Estimate | None:
    """Return the percentile `q` of samples `[n]` in the order of time, with its 95 % interval; None where they are too few.

    The interval is that of the share of samples below, read off as percentiles (Woodruff 1952), by Wilson's score. Samples count as so
    many independent ones as their neighbors in time allow, which is what Korn and Graubard do for surveys: bursts of noise and drift
    widen the interval.
    """
    samples = np.asarray(samples, np.float64)
    count, part = len(samples), q / 100
    if count < least_samples(q):
        return None
    value = float(np.quantile(samples, part))
    # Bursts may begin just beyond the percentile itself, and a drift shows in the middle.
    levels = (part,) if part <= _MIDDLE else (_MIDDLE, part, (1 + part) / 2)
    size, degrees = min(independent((samples <= np.quantile(samples, at)).astype(np.float64)) for at in levels)
    if size * min(part, 1 - part) < _LEAST_EPISODES:
        return None
    low, high = _wilson(part, size, t_quantile(max(min(degrees, size - 1), 4.0)))
    ends = np.quantile(samples, [low, high], method="hazen")
    return Estimate(value, min(float(ends[0]), value), max(float(ends[1]), value), count)


def median_of(samples: Sequence[float]) -> Estimate | None:
    """Return the median of independent samples with an interval of at least 95 %, between two of them; None of fewer than 6.

    Source: Conover, Practical Nonparametric Statistics, section 3.2: how many samples lie below the median is binomial.
    """
    ordered, count = np.sort(np.asarray(samples, np.float64)), len(samples)
    below, outside = 0.0, -1
    for k in range(count // 2):
        below += math.comb(count, k) / 2**count
        if below > (1 - CONFIDENCE) / 2:
            break
        outside = k
    if outside < 0:
        return None
    return Estimate(float(np.median(ordered)), float(ordered[outside]), float(ordered[count - 1 - outside]), count)


def independent(series: np.ndarray) -> tuple[float, float]:
    """Return as how many independent values a series `[n]` counts when its mean is taken, and the degrees of freedom of that answer.

    Autocovariances are summed as far as the sums of neighboring pairs are positive and fall (Geyer 1992, initial monotone sequence).
    """
    count = len(series)
    centered = series - series.mean()
    if not centered.any():
        return float(count), float(count)
    spectrum = np.fft.rfft(centered, 2 * count)
    covariances = np.fft.irfft(np.abs(spectrum) ** 2)[:count] / count
    times, pairs = _spread(covariances)
    # The mean that was taken off is the sample's own, so that all covariances are too small by its variance.
    times, pairs = _spread(covariances + covariances[0] * times / count)
    # The sum itself has this relative error (Priestley 1981, section 6.2), and tends to end too early.
    error = _DOUBT * math.sqrt(4 * pairs / count)
    return count / (max(times, 1 / _MOST_INDEPENDENT) * (1 + error)), count / (2 * pairs)


def _spread(covariances: np.ndarray) -> tuple[float, int]:
    """Return how many times the variance of a mean is that of independent values, and how many pairs of covariances say so."""
    pairs = covariances[: len(covariances) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    positive = np.minimum.accumulate(pairs[: ends[0] if ends.size else None])
    return 2 * float(positive.sum()) / covariances[0] - 1, max(len(positive), 1)


def _wilson(part: float, count: float, reach: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share."""
    square = reach * reach / count
    middle = (part + square / 2) / (1 + square)
    half = math.sqrt(part * (1 - part) * square + square * square / 4) / (1 + square)
    return middle - half, middle + half
