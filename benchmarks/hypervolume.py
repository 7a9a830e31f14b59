"""Measure how much a set of points dominates: the volume between it and a reference point, less being better on every axis."""

from collections.abc import Iterable, Sequence


def hypervolume(points: Iterable[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume of all that some point beats and the reference does not, by slices along the last axis.

    Points that lie beyond the reference on an axis count nothing. Raises ValueError where numbers of axes differ.
    """
    given = [tuple(point) for point in points]
    if any(len(point) != len(reference) for point in given):
        raise ValueError(f"points of {len(reference)} axes are expected")
    inside = [point for point in given if all(x < r for x, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(point[0] for point in inside)
    levels = sorted({point[-1] for point in inside})
    volume = 0.0
    for low, high in zip(levels, [*levels[1:], reference[-1]], strict=True):
        below = [point[:-1] for point in inside if point[-1] <= low]
        volume += (high - low) * hypervolume(below, reference[:-1])
    return volume
