"""Choose optimization profiles (the batches an engine is built for) from the lengths of the user's own text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

Shape = tuple[int, int]
QUANTILES = (0.5, 0.9)
"""One profile for lengths up to the median, one up to the 90th percentile, and one up to the longest the model takes."""

_MULTIPLE = 8
_OPT_BATCH = 8


@dataclass(frozen=True)
class Profile:
    """The smallest and the largest shape `(texts, tokens)` that are accepted, and the one that kernels are chosen for."""

    min: Shape
    opt: Shape
    max: Shape

    def takes(self, batch: int, length: int) -> bool:
        """Return whether `batch` texts of `length` tokens fit."""
        return self.min[0] <= batch <= self.max[0] and self.min[1] <= length <= self.max[1]


def make_profiles(lengths: np.ndarray, longest: int, *, batch: int = 32) -> list[Profile]:
    """Return profiles that together take every length from 1 to `longest` tokens and up to `batch` texts.

    Borders are quantiles of `lengths [texts]` (int64), rounded up to a multiple of 8. Each profile is optimized for the median
    of the lengths that fall into it.
    """
    borders = [min(longest, _up(int(np.quantile(lengths, q)))) for q in QUANTILES]
    ends = sorted({*borders, longest})
    profiles, start = [], 1
    for end in ends:
        inside = lengths[(lengths >= start) & (lengths <= end)]
        best = min(end, _up(int(np.median(inside)))) if len(inside) else end
        profiles.append(Profile((1, start), (min(_OPT_BATCH, batch), max(best, start)), (batch, end)))
        start = end + 1
    return profiles


def check_profiles(profiles: Sequence[Profile], lengths: np.ndarray, longest: int) -> None:
    """Raise UsageError where a profile contradicts itself or exceeds the model's `longest`, or a text's length fits none.

    Texts without a token are not counted: no engine takes them.
    """
    for number, p in enumerate(profiles):
        if any(not 1 <= low <= best <= high for low, best, high in zip(p.min, p.opt, p.max, strict=True)):
            raise UsageError(
                f"profile {number}: min {_x(p.min)}, opt {_x(p.opt)}, max {_x(p.max)} have to be in this order, from 1x1 up"
            )
        if p.max[1] > longest:
            raise UsageError(f"profile {number}: max {_x(p.max)}, and the model takes no more than {longest} tokens")
    outside = [int(n) for n in lengths if n and not any(p.takes(p.min[0], int(n)) for p in profiles)]
    if outside:
        taken = ", ".join(f"{p.min[1]} to {p.max[1]}" for p in profiles)
        raise UsageError(
            f"{len(outside)} of {len(lengths)} texts have {min(outside)} to {max(outside)} tokens, but the profiles take {taken}: "
            "widen them, or leave them out and they are made from the text"
        )


def _up(length: int) -> int:
    return -(-max(length, 1) // _MULTIPLE) * _MULTIPLE


def _x(shape: Shape) -> str:
    return "x".join(map(str, shape))
