"""Score rankings: what the first texts of each query are worth, by labels or by the source's own scores."""

from collections.abc import Callable

import numpy as np

from .figures import Statistic, mean

K = 10
"""Rankings are read as far as the tenth text."""

Ranking = Callable[[np.ndarray, np.ndarray], float]
"""Takes what the texts of a query are worth and the scores that order them, both `[texts]`, and returns a figure from 0 to 1."""


def ndcg(relevance: np.ndarray, scores: np.ndarray, k: int = K) -> float:
    """Return the discounted gain of the first `k` texts of a query over the best possible; equal scores share their places' gain.

    Source: Järvelin & Kekäläinen 2002, with gains that are the relevance itself, as in scikit-learn. 0 where nothing is relevant.
    """
    discounts = np.where(np.arange(len(scores)) < k, 1 / np.log2(np.arange(len(scores)) + 2), 0.0)
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    gains = np.bincount(group, relevance) / sizes
    ends = np.cumsum(np.concatenate([[0.0], discounts]))[np.cumsum(sizes)]
    gain = float(gains @ np.diff(ends, prepend=0.0))
    best = float(np.sort(relevance)[::-1] @ discounts)
    return gain / best if best else 0.0


def ndcg_of_order(wanted: np.ndarray, given: np.ndarray) -> float:
    """Return the nDCG of the order by `given [texts]`, 1 for that of the source.

    The gain of a text is the source's score `wanted`, scaled from 0 for the lowest to 1 for the highest.
    """
    spread = float(wanted.max() - wanted.min())
    return ndcg((wanted - wanted.min()) / spread, given) if spread else 1.0


def mean_of_queries(one: Ranking, wanted: np.ndarray, given: np.ndarray, queries: np.ndarray) -> Statistic | None:
    """Return the mean over queries of a figure of each; None where no query has several texts.

    `wanted`, `given` and `queries`, the number of each text's query, are `[texts]`. A query counts as often as its first text does.
    """
    totals, sizes = np.zeros(len(queries)), np.zeros(len(queries))
    for number in np.unique(queries):
        own = np.flatnonzero(queries == number)
        if len(own) > 1:
            totals[own[0]], sizes[own[0]] = one(wanted[own], given[own]), 1.0
    return mean(totals, sizes) if sizes.any() else None


def first_stays(wanted: np.ndarray, given: np.ndarray) -> float:
    """Return 1 where the text that comes first is one that the source scores highest, else 0."""
    return float(wanted[int(given.argmax())] == wanted.max())
