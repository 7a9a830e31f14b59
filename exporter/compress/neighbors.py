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


def products(vectors: np.ndarray) -> np.ndarray:
    """Return the dot product of every pair of vectors `[texts, dimensions]`, as a part of the largest, float64 `[texts, texts]`."""
    vectors = vectors.astype(np.float64)
    found = vectors @ vectors.T
    return np.asarray(found / max(float(np.abs(found).max(initial=0.0)), _TIE))


def late_similarities(vectors: np.ndarray, owners: np.ndarray, texts: int) -> np.ndarray:
    """Return MaxSim of every pair of texts, the mean of both directions and over tokens, float64 `[texts, texts]`.

    `vectors [tokens, dimensions]` are those of all texts, `owners [tokens]` the number of each one's text, ascending. That of a text
    without a vector is 0.
    """
    vectors = vectors.astype(np.float64)
    counts = np.bincount(owners, minlength=texts)
    there, starts = np.flatnonzero(counts), np.concatenate([[0], np.cumsum(counts[counts > 0])[:-1]])
    found = np.zeros((texts, texts))
    for text in there:
        best = np.maximum.reduceat(vectors[owners == text] @ vectors.T, starts, axis=1)
        found[text, there] = best.mean(axis=0)
    return (found + found.T) / 2


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
