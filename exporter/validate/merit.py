"""Put quality, speed and size on one scale, by which bundles of one model are ordered. See docs/concepts/merit.md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .estimates import Estimate

POINTS_OF_A_HALVING = 5.0
"""So many points of quality are worth half the merit: the `max_drop` that a compression has where none is given."""


@dataclass(frozen=True)
class Standing:
    """What a bundle keeps, gains and saves beside its source.

    `speed`: the source's latency over the bundle's. `saving`: the source's bytes over the bundle's. `lost`: points of quality, from 0
    to 100, of which a bundle that is better than its source has lost less than none.
    """

    speed: Estimate
    saving: float
    lost: Estimate


def merit(speed: float, saving: float, lost: float) -> float:
    """Return the merit of a bundle: 1 for the source itself, 2 for half its time and half its bytes at equal quality.

    It is the geometric mean of `speed` and `saving`, halved for every 5 points that are `lost`. Raises ValueError where a ratio is not
    above 0.
    """
    if not (speed > 0 and saving > 0):
        raise ValueError(f"speed {speed} and saving {saving}: both have to be above 0")
    return math.sqrt(speed * saving) * 2.0 ** (-lost / POINTS_OF_A_HALVING)


def merit_of(standing: Standing) -> Estimate:
    """Return the merit, between those of the worst and the best ends of the intervals of its parts.

    The parts' ends do not fall together as often as each alone, so that the interval holds the truth at least as often as theirs.
    """
    speed, lost = standing.speed, standing.lost
    return Estimate(
        merit(speed.value, standing.saving, lost.value),
        merit(speed.low, standing.saving, lost.high),
        merit(speed.high, standing.saving, lost.low),
    )


def ordered(standings: Iterable[tuple[str, Standing]]) -> list[tuple[str, Standing, Estimate, bool]]:
    """Return (name, standing, merit, whether it is told apart from all above it), the highest merit first.

    Two bundles are told apart where their intervals do not overlap.
    """
    found = sorted(((name, one, merit_of(one)) for name, one in standings), key=lambda item: (-item[2].value, item[0]))
    return [
        (name, one, figure, all(figure.high < above.low for _, _, above in found[:number]))
        for number, (name, one, figure) in enumerate(found)
    ]


def front_of(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that nothing beats, where less is better in both coordinates, from the lowest first one on."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front
