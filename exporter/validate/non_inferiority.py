"""Test whether a model is worse than its source by no more than so many points, on the same texts."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...calibration.interval import multiplicities
from .estimates import Estimate
from .metrics import Metric

_DRAWS = 2000
_AT_A_TIME = 100
_UNSEEN = 0.025
CORRELATIONS = ("Pearson", "Spearman")
"""Metrics that no single text decides: a text more can hardly change them."""


@dataclass(frozen=True)
class Drop:
    """The points that a model has less than its source. `confidence` is that of the statement that no more than `allowed` are lost."""

    metric: str
    points: float
    source_points: float
    drop: Estimate
    allowed: float
    confidence: float

    @property
    def statement(self) -> str:
        """What was tested, in words."""
        points = f"{self.allowed:g} point{'s' if self.allowed != 1 else ''} of {self.metric}"
        return f"no worse than {points}, with {100 * self.confidence:.1f} % confidence"

    def to_json(self) -> dict[str, Any]:
        """Return the drop as plain values."""
        return {
            "metric": self.metric,
            "points": self.points,
            "source_points": self.source_points,
            "drop": self.drop.to_json(),
            "allowed": self.allowed,
            "confidence": self.confidence,
            "statement": self.statement,
        }


def drop_of(metric: Metric, allowed: float) -> Drop:
    """Return how many points are lost, with a 95 % interval, and the confidence that it is at most `allowed`.

    Texts are resampled, both models' answers together. Where hardly any answer differs, resampling cannot show one that was not
    met: so no interval ends before 100 (1 - 0.025^(1 / texts)) points, which is the exact end for a text that never got worse. Counted
    are the texts that decide the metric.
    """
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS // _AT_A_TIME):
        weights = multiplicities(rng.integers(0, metric.count, (_AT_A_TIME, metric.count)))
        drawn.append(100 * (metric.source(weights) - metric.own(weights)))
    draws = np.concatenate(drawn)
    low, high = np.quantile(draws, [0.025, 0.975])
    confidence = float((draws <= allowed).mean())
    if metric.name not in CORRELATIONS:
        texts = max(metric.decided_by, 1)
        high = max(high, 100 * (1 - _UNSEEN ** (1 / texts)))
        confidence = min(confidence, 1 - max(0.0, 1 - allowed / 100) ** texts)
    value = metric.source_points - metric.points
    found = Estimate(value, float(low), float(high), metric.decided_by)
    return Drop(metric.name, metric.points, metric.source_points, found, allowed, confidence)


def texts_needed(allowed: float) -> int:
    """Return how many texts a statement about `allowed` points needs at least."""
    return math.ceil(math.log(_UNSEEN) / math.log(1 - min(allowed, 99.0) / 100)) if allowed > 0 else 0
