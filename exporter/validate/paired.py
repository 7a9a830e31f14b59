"""Compare two latencies by the ratio of paired, interleaved blocks, and add blocks until the question is answered."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .estimates import Estimate, widened

_TRIM = 0.1
_DRAWS = 2000
LEAST_BLOCKS = 12
"""Fewer blocks say too little about how much blocks differ."""

_FEWEST = 4
"""So many are measured whatever the budget: of fewer there is no interval."""

_GROWTH = 1.1
"""The interval is looked at again after so many times as many blocks: each look is a chance to stop where it is narrow by luck."""

_DETECTABLE = 1.96 + 0.84
"""A difference of so many standard errors is found in 80 of 100 measurements."""


@dataclass(frozen=True)
class Rule:
    """When to stop: `half_width` of the ratio's interval is narrow enough, `seconds` is the budget. `limit` is the ratio asked about."""

    half_width: float
    seconds: float
    limit: float | None = None
    least: int = LEAST_BLOCKS


@dataclass(frozen=True)
class Ratio:
    """The ratio of two latencies with its interval. `detectable` is the smallest slowdown that would be found, as 0.03 for 3 %."""

    estimate: Estimate
    detectable: float
    narrow: bool

    @property
    def half_width(self) -> float:
        """Half the interval, as a part of the ratio."""
        return (self.estimate.high - self.estimate.low) / 2 / self.estimate.value


def block_of(own: np.ndarray, first: np.ndarray) -> float:
    """Return the logarithm of own / first of a block: times `[rounds, shapes]`, the least of the rounds, mean of the shapes.

    What a machine does to a call makes it slower, never faster, and slows two models unequally: the least time has least of it.
    """
    return float((np.log(own.min(axis=0)) - np.log(first.min(axis=0))).mean())


def middle(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without the largest and smallest tenth."""
    ordered = np.sort(values, axis=-1)
    cut = int(_TRIM * ordered.shape[-1])
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def ratio_of(blocks: np.ndarray, since: np.ndarray | None = None, *, margin: float = 0.0) -> Ratio:
    """Return the ratio of latencies from blocks' logarithms `[blocks]`, less those of an earlier run, `since`, where given.

    Blocks are resampled, since rounds of one block share its memory and its neighbors in time. `margin` is the slowdown that is
    allowed, in logarithms: what is found beyond it is `detectable`.
    """
    rng = np.random.default_rng(0)
    parts = [np.asarray(blocks, np.float64)] + ([] if since is None else [np.asarray(since, np.float64)])
    drawn = [middle(part[rng.integers(0, len(part), (_DRAWS, len(part)))]) for part in parts]
    centers = [float(middle(part)) for part in parts]
    change = drawn[0] - (drawn[1] if since is not None else 0.0)
    center = centers[0] - (centers[1] if since is not None else 0.0)
    count = min(len(part) for part in parts)
    low, high = np.quantile(change, widened(count))
    error = (float(high) - float(low)) / 2 / 1.96
    found = Estimate(math.exp(center), math.exp(float(low)), math.exp(float(high)), count)
    return Ratio(found, math.exp(margin + _DETECTABLE * error) - 1, narrow=False)


def measure_ratio(
    next_block: Callable[[], float],
    rule: Rule,
    clock: Callable[[], float],
    since: np.ndarray | None = None,
) -> tuple[Ratio, np.ndarray]:
    """Return the ratio of blocks that `next_block` measures, and the blocks: as many as the rule asks for.

    It stops where the interval is narrow and tells on which side of the limit the ratio lies, or where it lies off the limit by more
    than its own width again, so that the look itself decides nothing. The time of a block decides whether another one fits into the
    budget.
    """
    start, blocks, enough = clock(), [], rule.least
    while True:
        began = clock()
        blocks.append(next_block())
        now = clock()
        spent = now - start + (now - began) > rule.seconds
        if len(blocks) < (_FEWEST if spent else enough):
            continue
        enough = math.ceil(len(blocks) * _GROWTH)
        margin = abs(math.log(rule.limit)) if rule.limit else 0.0
        ratio = ratio_of(np.array(blocks), since, margin=margin)
        narrow = ratio.half_width <= rule.half_width
        if spent or (narrow and not _holds(ratio, rule.limit)) or _is_clear(ratio, rule.limit):
            return Ratio(ratio.estimate, ratio.detectable, narrow), np.array(blocks)


def _holds(ratio: Ratio, limit: float | None) -> bool:
    return limit is not None and ratio.estimate.low <= limit < ratio.estimate.high


def _is_clear(ratio: Ratio, limit: float | None) -> bool:
    if limit is None:
        return False
    found = ratio.estimate
    width = math.log(found.high / found.low)
    return abs(math.log(found.value / limit)) > width
