"""Write the numbers of units that stay as ranges, as "0-311 313": a plan of thousands of neurons stays readable."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator

_RANGES = re.compile(r"(\d{1,7}(-\d{1,7})?( \d{1,7}(-\d{1,7})?)*)?")
_MOST = 1 << 22


def to_ranges(units: Sequence[int]) -> str:
    """Return ascending numbers as ranges; no numbers are an empty text."""
    ends = [i for i, (a, b) in enumerate(pairwise(units)) if b != a + 1]
    starts = [0, *(i + 1 for i in ends)]
    runs = [(units[a], units[b]) for a, b in zip(starts, [*ends, len(units) - 1], strict=True)] if units else []
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def from_ranges(text: str) -> list[int]:
    """Return the numbers that ranges stand for. Raises ValueError where they are not ascending ranges."""
    if not _RANGES.fullmatch(text):
        raise ValueError(f"{text[:40]!r}: numbers and ranges are expected, as 0-311 313")
    units: list[int] = []
    for run in text.split():
        first, _, last = run.partition("-")
        start, end = int(first), int(last or first)
        if end < start or (units and start <= units[-1]) or end > _MOST:
            raise ValueError(f"{run!r}: ranges must ascend")
        units += range(start, end + 1)
    return units


def _checked(text: str) -> str:
    from_ranges(text)
    return text


UnitRanges = Annotated[str, AfterValidator(_checked)]
"""Numbers of units as ranges."""
