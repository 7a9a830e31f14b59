"""Compare orders by score, where scores that are as good as equal may come in either order."""

from collections.abc import Sequence

import numpy as np


def check_order(order: Sequence[int], scores: np.ndarray, tolerance: float = 1e-4) -> None:
    """Assert that `order` lists the places of the best of `scores`, best first, up to `tolerance`."""
    assert len(set(order)) == len(order)
    best = np.sort(scores)[::-1][: len(order)]
    np.testing.assert_allclose(scores[list(order)], best, rtol=0, atol=tolerance)
