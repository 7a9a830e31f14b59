"""Say how far a figure may be from the truth: the interval of a statistic over resampled items."""

from collections.abc import Callable

import numpy as np


def interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    count: int,
    *,
    seed: int = 0,
    draws: int = 2000,
    ends: tuple[float, float] = (0.025, 0.975),
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a statistic of `count` items, all of an item's figures resampled together.

    `ends` are the probabilities at which the draws are cut, wider where items are few.

    `statistic` takes the numbers of the drawn items, int64 `[draws, count]`, and returns a figure for each draw, `[draws]`.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, percentile interval (section 13.3).
    """
    picks = np.random.default_rng(seed).integers(0, count, (draws, count))
    low, high = np.quantile(statistic(picks), ends)
    return float(low), float(high)


def multiplicities(picks: np.ndarray) -> np.ndarray:
    """Return how often each draw has each item, float64 `[draws, count]`, for the numbers of the drawn items, int64 of that shape."""
    draws, count = picks.shape
    places = picks + count * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)
