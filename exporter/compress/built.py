"""Hold what a search built on its way: how fast, and at what loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A model that was built on the way: how many times as fast as before it was cut, and what it lost.

    `drop` is in points, on the texts to choose by.
    """

    speedup: float
    drop: float


def curve_words(curve: Sequence[Point], most: float) -> str:
    """Return what was built on the way, and the fastest that loses at most `most` points; nothing where nothing was."""
    if not curve:
        return ""
    words = ", ".join(f"{p.speedup:.2f} times as fast loses {p.drop:.2f}" for p in curve)
    passing = [p for p in curve if p.drop <= most]
    advice = (
        f"The fastest of them that would pass: a `speedup` (--speedup) of {_floor(max(p.speedup for p in passing)):.2f}"
        if passing
        else "None of them would pass"
    )
    return (
        f". Built on the way: {words} points, on the texts to choose by. {advice}; what was learned is kept, and the next run goes on "
        "from there"
    )


def _floor(speedup: float) -> float:
    """Return a speedup of two digits that a model of this one meets."""
    return math.floor(100 * speedup - 0.1) / 100
