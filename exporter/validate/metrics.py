"""Score answers by labels: each metric as a function of how often a text counts, for its value, its interval, and paired differences."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..compress.figures import Statistic, mean, value_of
from ..compress.rankings import K

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def accuracy(given: np.ndarray, wanted: np.ndarray) -> Statistic:
    """Return the share of texts with the right class, of class numbers `[texts]`."""
    return mean((given == wanted).astype(np.float64))


def macro_f1(given: np.ndarray, wanted: np.ndarray) -> Statistic:
    """Return the mean of the F1 scores of all classes that were given or wanted, of class numbers `[texts]`."""
    classes = np.union1d(given, wanted)
    hits, found, there = (
        np.stack([(a == c) & (b == c) for c in classes], axis=1).astype(np.float64)
        for a, b in ((given, wanted), (given, given), (wanted, wanted))
    )

    def statistic(weights: np.ndarray) -> np.ndarray:
        counts = weights @ found + weights @ there
        scores = np.divide(2 * weights @ hits, counts, out=np.zeros_like(counts), where=counts > 0)
        return np.asarray(scores.sum(axis=1) / np.maximum((counts > 0).sum(axis=1), 1))

    return statistic


def binary_f1(given: np.ndarray, wanted: np.ndarray, positive: int = 1) -> Statistic:
    """Return the F1 score of one class, of class numbers `[texts]`; 0 where it was neither given nor wanted."""
    hits = ((given == positive) & (wanted == positive)).astype(np.float64)
    counts = (given == positive).astype(np.float64) + (wanted == positive)
    return mean(2 * hits, counts)


def spearman(a: np.ndarray, b: np.ndarray) -> Statistic:
    """Return the rank correlation of two values `[texts]`; equal values share the mean of their ranks, in every draw anew."""
    groups = [np.unique(x, return_inverse=True)[1] for x in (a, b)]

    def statistic(weights: np.ndarray) -> np.ndarray:
        x, y = (_weighted_ranks(weights, group) for group in groups)
        count = weights.sum(axis=1, keepdims=True)
        x, y = (r - (weights * r).sum(axis=1, keepdims=True) / count for r in (x, y))
        shared = (weights * x * y).sum(axis=1)
        spread = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
        return np.divide(shared, spread, out=np.zeros(len(weights)), where=spread > 0)

    return statistic


def _weighted_ranks(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the rank of each text among texts that count `weights [draws, texts]` times; `group` orders them."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    before = np.cumsum(sizes, axis=1) - sizes
    return np.asarray((before + (sizes + 1) / 2)[:, group])


def normalized_answer(text: str) -> str:
    """Return an answer in SQuAD's normal form: lower case, without punctuation, articles, and spare white space."""
    plain = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(given: Sequence[str], wanted: Sequence[Sequence[str]]) -> np.ndarray:
    """Return 1 for each question whose answer equals one of the right ones, else 0: `[questions]`, SQuAD 1.1's definition."""
    return np.array(
        [float(any(normalized_answer(g) == normalized_answer(w) for w in ws)) for g, ws in _pairs(given, wanted)]
    )


def span_f1(given: Sequence[str], wanted: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the F1 score of the words of each answer with the best of the right ones: `[questions]`, SQuAD 1.1's definition."""
    return np.array([max(_word_f1(g, w) for w in ws) for g, ws in _pairs(given, wanted)])


def _pairs(given: Sequence[str], wanted: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Return answers with the right ones; a question without an answer is answered by nothing, as in SQuAD 2.0."""
    return [(g, ws or [""]) for g, ws in zip(given, wanted, strict=True)]


def _word_f1(given: str, wanted: str) -> float:
    a, b = normalized_answer(given).split(), normalized_answer(wanted).split()
    if not a or not b:
        return float(a == b)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b))


def entities_of(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the entities of a text's tags, as (kind, first, last): the default of seqeval, which is that of CoNLL's script.

    An entity begins at `B-` or `S-`, after `E-`, `S-` or `O`, and where the kind changes; one that begins with `I-` counts.
    """
    entities, begin, before, kind_before = set(), 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-") if tag != "O" else ("O", "", "")
        kind = kind or ("" if prefix == "O" else "_")
        ends = before not in "O" and (before in "ES" or prefix in "BSO" or kind != kind_before)
        if ends:
            entities.add((kind_before, begin, place - 1))
        if prefix != "O" and (before in "OES" or prefix in "BS" or kind != kind_before):
            begin = place
        before, kind_before = prefix, kind
    return entities


def entity_f1(given: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> Statistic:
    """Return the F1 score of all entities of all texts, of the tags of each word; 0 where there are none."""
    found = [(entities_of(g), entities_of(w)) for g, w in zip(given, wanted, strict=True)]
    hits = np.array([2.0 * len(g & w) for g, w in found])
    return mean(hits, np.array([float(len(g) + len(w)) for g, w in found]))


def reciprocal_rank(relevance: np.ndarray, scores: np.ndarray) -> float:
    """Return one over the rank of the first relevant text; of equal scores the relevant one comes last, so that ties gain nothing."""
    if not (relevance > 0).any():
        return 0.0
    best = scores[relevance > 0].max()
    return 1.0 / float((scores >= best).sum() - ((scores == best) & (relevance > 0)).sum() + 1)


def recall(relevance: np.ndarray, scores: np.ndarray, k: int = K) -> float:
    """Return the part of the relevant texts that is among the first `k`; of equal scores those that come first in the data."""
    there = int((relevance > 0).sum())
    first = np.argsort(-scores, kind="stable")[:k]
    return float((relevance[first] > 0).sum()) / there if there else 0.0


@dataclass(frozen=True)
class Metric:
    """A metric of a model and of its source on the same `count` texts, in points from 0 to 100."""

    name: str
    own: Statistic
    source: Statistic
    count: int
    deciding: int | None = None
    """Of how many texts the metric is made, where others do not count: those with an entity, of the F1 score of entities."""

    @property
    def decided_by(self) -> int:
        """How many texts decide the metric."""
        return self.count if self.deciding is None else self.deciding

    @property
    def points(self) -> float:
        """The points of the model."""
        return 100 * value_of(self.own, self.count)

    @property
    def source_points(self) -> float:
        """The points of the source."""
        return 100 * value_of(self.source, self.count)
