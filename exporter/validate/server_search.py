"""Find the highest rate of queries that a server answers in time."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

PART_LATE = 0.01
"""So many of the answers may be late: the bound is one on the 99th percentile."""

_WITHIN = 0.01
_MOST_TRIALS = 16
_MOST_LATE = 6
"""After so many trials of which none kept the bound, the rate is a sixtieth of the highest: the bound itself is out of reach."""

Trial = Callable[[float], tuple[int, int]]
"""Sends queries at a rate, in queries a second; returns how many were late, and how many there were."""


@dataclass(frozen=True)
class Capacity:
    """The highest rate found that keeps the bound, the lowest that does not, and every trial as (rate, late, queries).

    `rate` is 0 where even a slow trickle comes late.
    """

    rate: float
    too_much: float
    trials: tuple[tuple[float, int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the capacity as plain values."""
        return asdict(self)


def find_capacity(trial: Trial, service_ms: float) -> Capacity:
    """Return the highest rate at which at most 1 % of the answers are late, within 1 %, by halving.

    No queue has a rate above one query in each `service_ms`. A rate is taken for kept by the share of late answers alone: near the
    capacity of a queue it grows so steeply with the rate that a few thousand queries tell 5 % of the rate.
    """
    low, high = 0.0, 1e3 / service_ms
    trials: list[tuple[float, int, int]] = []
    while high - low > _WITHIN * high and len(trials) < (_MOST_TRIALS if low else _MOST_LATE):
        rate = (low + high) / 2
        late, queries = trial(rate)
        trials.append((rate, late, queries))
        low, high = (rate, high) if late <= PART_LATE * queries else (low, rate)
    return Capacity(low, high, tuple(trials))
