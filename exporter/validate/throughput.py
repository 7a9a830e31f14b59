"""Give the texts a second of a run in batches, with an interval."""

import numpy as np

from ...calibration.interval import interval
from .estimates import Estimate, widened

_LEAST = 6


def throughput_of(sizes: np.ndarray, milliseconds: np.ndarray) -> Estimate | None:
    """Return texts a second, of batches of `sizes` texts that took so many milliseconds; None of fewer than 6 batches.

    The interval is a bootstrap over neighboring batches together, since noise lasts longer than one.
    """
    if len(sizes) < _LEAST:
        return None
    parts = min(len(sizes), 20)
    groups = np.array_split(np.arange(len(sizes)), parts)
    texts, seconds = (np.array([x[group].sum() for group in groups]) for x in (sizes, milliseconds / 1e3))
    low, high = interval(
        lambda picks: texts[picks].sum(axis=1) / seconds[picks].sum(axis=1), parts, ends=widened(parts)
    )
    return Estimate(float(texts.sum() / seconds.sum()), low, high, parts)
