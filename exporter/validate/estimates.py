"""Hold a figure with its interval, and compare it with a limit: pass, fail, or undecided."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

Verdict = Literal["pass", "fail", "undecided"]

CONFIDENCE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A figure, and the ends of its 95 % interval. `count` says how many independent parts it was taken from."""

    value: float
    low: float
    high: float
    count: int = 1

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """Return a figure that is known, as a size in bytes."""
        return cls(value, value, value)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Estimate":
        """Return the estimate that `to_json` gave."""
        return cls(float(raw["value"]), float(raw["low"]), float(raw["high"]), int(raw["count"]))

    def to_json(self) -> dict[str, float]:
        """Return the figure as plain values."""
        return asdict(self)

    def map(self, factor: float) -> "Estimate":
        """Return the estimate in another unit: times a positive `factor`."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.count)


def at_most(figure: Estimate, limit: float) -> Verdict:
    """Return whether a figure is at most `limit`: decided where its whole interval is on one side."""
    if figure.high <= limit:
        return "pass"
    return "fail" if figure.low > limit else "undecided"


def at_least(figure: Estimate, limit: float) -> Verdict:
    """Return whether a figure is at least `limit`: decided where its whole interval is on one side."""
    if figure.low >= limit:
        return "pass"
    return "fail" if figure.high < limit else "undecided"


def t_quantile(degrees: float, probability: float = 0.5 + CONFIDENCE / 2) -> float:
    """Return a quantile of Student's t for at least 3 degrees of freedom, to three digits.

    Source: the expansion of Cornish and Fisher, Abramowitz & Stegun 26.7.5. It needs no scipy, which production lacks.
    """
    z = _NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def widened(count: int) -> tuple[float, float]:
    """Return the two probabilities at which a bootstrap of `count` items is cut for a 95 % interval.

    A percentile interval of few items is too narrow: Student's t and n / (n - 1) make up for it.
    Source: Hesterberg, What Teachers Should Know About the Bootstrap (2015), expanded percentile interval.
    """
    reach = t_quantile(count - 1) * math.sqrt(count / (count - 1))
    low = _NORMAL.cdf(-reach)
    return low, 1.0 - low
