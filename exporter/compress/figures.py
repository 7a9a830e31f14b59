"""Figures of a set of texts, each as a function of how often a text counts: once for the figure, at random for its interval."""

from collections.abc import Callable, Sequence

import numpy as np

from ...calibration.interval import interval, multiplicities

Statistic = Callable[[np.ndarray], np.ndarray]
"""Takes how often each text counts, float64 `[draws, texts]`, and returns a figure for each draw, float64 `[draws]`."""

_CONSTANT = 1e-12
"""A variance below this part of all texts' is that of equal values, and rounding."""


def value_of(statistic: Statistic, count: int) -> float:
    """Return the figure of `count` texts."""
    return float(statistic(np.ones((1, count)))[0])


def interval_of(statistic: Statistic, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a figure of `count` texts, which are resampled."""
    return interval(lambda picks: statistic(multiplicities(picks)), count)


def constant(value: float) -> Statistic:
    """Return the figure that is the same whatever the texts."""
    return lambda weights: np.full(len(weights), value)


def combined(statistics: Sequence[Statistic], weights: Sequence[float] | None = None) -> Statistic:
    """Return the weighted sum of figures; their mean where no `weights` are given."""
    shares = [1 / len(statistics)] * len(statistics) if weights is None else weights
    return lambda w: sum((s * figure(w) for s, figure in zip(shares, statistics, strict=True)), np.zeros(len(w)))


def mean(totals: np.ndarray, sizes: np.ndarray | None = None) -> Statistic:
    """Return the mean of what texts consist of: the sum of their `totals` over the sum of their `sizes`, both `[texts]`."""
    counted = np.ones(len(totals)) if sizes is None else sizes
    return lambda weights: _divided(weights @ totals, weights @ counted, 0.0)


def f1(given: np.ndarray, wanted: np.ndarray) -> Statistic:
    """Return the F1 score of all decisions `[texts, labels]`; 1 where there is nothing to find, and nothing was found."""
    hits = (given & wanted).sum(axis=1).astype(np.float64)
    decided = given.sum(axis=1) + wanted.sum(axis=1).astype(np.float64)
    return lambda weights: _divided(2 * weights @ hits, weights @ decided, 1.0)


def correlation(a: np.ndarray, b: np.ndarray, owners: np.ndarray | None = None, texts: int = 0) -> Statistic:
    """Return the Pearson correlation of two values: 1 where both are constant, 0 where one alone is.

    The values are those of texts, or of parts of `texts` texts: `owners` has the number of each one's text.
    """
    a, b = (x - x.mean() for x in (a.astype(np.float64), b.astype(np.float64)))
    squares = a * a, b * b
    places = np.arange(len(a)) if owners is None else owners
    count, first, second, square, other, product = (
        np.bincount(places, x, texts) for x in (np.ones(len(a)), a, b, *squares, a * b)
    )

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = [weights @ x for x in (count, first, second, square, other, product)]
        return _from_sums(sums[0], (sums[1], sums[2]), sums[3:5], sums[5], squares)

    return statistic


def pair_correlation(a: np.ndarray, b: np.ndarray) -> Statistic:
    """Return the Pearson correlation of symmetric `[texts, texts]` over all pairs of two different texts."""
    off = ~np.eye(len(a), dtype=bool)
    a, b = (np.where(off, x.astype(np.float64) - x[off].mean(dtype=np.float64), 0.0) for x in (a, b))
    squares, products = (a * a, b * b), a * b

    def statistic(weights: np.ndarray) -> np.ndarray:
        def total(x: np.ndarray) -> np.ndarray:
            return np.asarray(((weights @ x) * weights).sum(axis=1))

        pairs = weights.sum(axis=1) ** 2 - (weights * weights).sum(axis=1)
        return _from_sums(pairs, (total(a), total(b)), [total(x) for x in squares], total(products), squares)

    return statistic


def _from_sums(
    count: np.ndarray,
    sums: tuple[np.ndarray, np.ndarray],
    squares: Sequence[np.ndarray],
    products: np.ndarray,
    of_all: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the correlation of each draw from its sums. `of_all`: the squares that were drawn from, to know rounding by."""
    means = [_divided(x, count, 0.0) for x in sums]
    variances = [np.maximum(_divided(x, count, 0.0) - m * m, 0.0) for x, m in zip(squares, means, strict=True)]
    flat = [v <= _CONSTANT * x.mean() for v, x in zip(variances, of_all, strict=True)]
    shared = _divided(products, count, 0.0) - means[0] * means[1]
    result = np.clip(_divided(shared, np.sqrt(variances[0] * variances[1]), 0.0), -1.0, 1.0)
    return np.where(flat[0] | flat[1], (flat[0] & flat[1]).astype(np.float64), result)


def concordance(a: np.ndarray, b: np.ndarray) -> Statistic:
    """Return Lin's concordance of two values `[texts]`: their correlation, less what a shift or another scale takes from it."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if len(a) < 2 or np.array_equal(a, b):
        size = max(float(np.abs(a).max(initial=0)), 1e-12)
        return constant(max(0.0, 1.0 - float(np.abs(a - b).max(initial=0)) / size))
    middle = a.mean()
    a, b = a - middle, b - middle

    def statistic(weights: np.ndarray) -> np.ndarray:
        count = weights.sum(axis=1)
        first, second = weights @ a / count, weights @ b / count
        shared = weights @ (a * b) / count - first * second
        spread = weights @ (a * a) / count + weights @ (b * b) / count - 2 * first * second
        return _divided(2 * shared, spread, 1.0)

    return statistic


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values `[n]` from 1 on; equal ones share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places])


def _divided(a: np.ndarray, b: np.ndarray, otherwise: float) -> np.ndarray:
    """Return a / b; `otherwise` where b is 0."""
    return np.divide(a, b, out=np.full(len(a), otherwise), where=b != 0)
