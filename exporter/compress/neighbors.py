"""Compare embeddings by what a search does with them: how similar pairs of texts are, and which texts are nearest to each."""

from dataclasses import dataclass

import numpy as np

from .figures import correlation, ranks, value_of

NEIGHBORS = 10
"""Of so many nearest neighbors is counted how many stay, or of all others where there are fewer texts."""

_TIE = 1e-6
"""Cosines nearer than this are equal: float32 cannot tell them apart."""


@dataclass(frozen=True)
class Neighbors:
    """How the neighbors of each text among all others compare with the source's.

    `count` are compared. `nearest [texts]` is 1 where the nearest is one of the source's nearest, else 0; `recall [texts]` is the part
    of the nearest `count` that are among the source's nearest `count`.
    """

    count: int
    nearest: np.ndarray
    recall: np.ndarray


def similarities(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of every pair of vectors `[texts, dimensions]`, float64 `[texts, texts]`; that of a zero vector is 0."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.asarray(vectors @ vectors.T)


def rank_correlation(wanted: np.ndarray, given: np.ndarray) -> float:
    """Return Spearman's correlation of the similarities of all pairs of texts, of two matrices `[texts, texts]`."""
    upper = np.triu_indices(len(wanted), 1)
    a, b = (ranks(x[upper]) for x in (wanted, given))
    return value_of(correlation(a, b), len(a))


def neighbors(wanted: np.ndarray, given: np.ndarray) -> Neighbors:
    """Return how the nearest neighbors compare, by similarities `[texts, texts]` of at least two texts.

    Where texts are equally near in the source, either of them is right.
    """
    count = min(NEIGHBORS, len(wanted) - 1)
    alone = np.eye(len(wanted), dtype=bool)
    wanted, given = (np.where(alone, -np.inf, x) for x in (wanted, given))
    found = np.argsort(-given, axis=1, kind="stable")[:, :count]
    similar = np.take_along_axis(wanted, found, axis=1)
    limits = -np.sort(-wanted, axis=1)[:, [0, count - 1]] - _TIE
    return Neighbors(count, (similar[:, 0] >= limits[:, 0]).astype(np.float64), (similar >= limits[:, 1:]).mean(axis=1))
